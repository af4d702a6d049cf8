#!/usr/bin/env python3
"""Makes a folder as stasis run --record leaves it, of a run that never was: a shape with several
caches, a guest busy with a scheduler's work, figures that add up. The same for the same seed.
usage: make_record.py DIR [--nodes N --caches N --cores N --threads N --windows N --hostile]"""
import argparse
import json
import math
import os
import random

HZ = 997
CLASSES = ["other", "pick", "queue", "wake_up", "balance", "tick", "load", "sched_ext", "bpf_scheduler", "switch"]
ENTRY = ["entry_SYSCALL_64_after_hwframe", "do_syscall_64"]
TIMER = ["asm_sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt", "__sysvec_apic_timer_interrupt",
         "hrtimer_interrupt", "__hrtimer_run_queues", "tick_nohz_handler", "update_process_times"]
WRITE = ENTRY + ["x64_sys_call", "__x64_sys_write", "ksys_write", "vfs_write", "sock_write_iter", "unix_stream_sendmsg"]
READ = ENTRY + ["x64_sys_call", "__x64_sys_read", "ksys_read", "vfs_read", "sock_read_iter", "unix_stream_recvmsg",
                "unix_stream_read_generic"]
WAKE = WRITE + ["sock_def_readable", "__wake_up_sync_key", "autoremove_wake_function", "default_wake_function",
                "try_to_wake_up"]
BLOCK = READ + ["unix_stream_data_wait", "schedule_timeout", "schedule", "__schedule"]
POLL = ENTRY + ["x64_sys_call", "__x64_sys_sched_yield", "do_sched_yield"]
USER = ["0x55d1c0a41f30", "0x55d1c0a412c8"]
# (task, stack from the outermost on, class, weight)
STACKS = [
    ("hackbench", USER, None, 30),
    ("hackbench", USER + ["0x55d1c0a40e7a"], None, 55),
    ("hackbench", USER + ["0x7f3a91c2be4f"], None, 18),
    ("hackbench", ENTRY, "other", 22),
    ("hackbench", WRITE, "other", 34),
    ("hackbench", WRITE + ["sock_alloc_send_pskb", "alloc_skb_with_frags", "__alloc_skb", "kmem_cache_alloc_node"], "other", 31),
    ("hackbench", WRITE + ["skb_copy_datagram_from_iter", "_copy_from_iter"], "other", 24),
    ("hackbench", WRITE + ["_raw_spin_lock"], "other", 17),
    ("hackbench", WAKE, "wake_up", 14),
    ("hackbench", WAKE + ["select_task_rq_fair"], "wake_up", 26),
    ("hackbench", WAKE + ["select_task_rq_fair", "select_idle_sibling"], "wake_up", 21),
    ("hackbench", WAKE + ["select_task_rq_fair", "select_idle_sibling", "available_idle_cpu"], "wake_up", 9),
    ("hackbench", WAKE + ["ttwu_queue_wakelist"], "wake_up", 8),
    ("hackbench", WAKE + ["ttwu_do_activate", "enqueue_task_fair"], "queue", 19),
    ("hackbench", WAKE + ["ttwu_do_activate", "enqueue_task_fair", "enqueue_entity", "place_entity"], "queue", 9),
    ("hackbench", WAKE + ["ttwu_do_activate", "enqueue_task_fair", "enqueue_entity", "update_load_avg"], "load", 12),
    ("hackbench", WAKE + ["ttwu_do_activate", "wakeup_preempt", "check_preempt_wakeup_fair"], "wake_up", 7),
    ("hackbench", READ + ["skb_copy_datagram_iter", "_copy_to_iter"], "other", 25),
    ("hackbench", READ + ["consume_skb", "skb_release_data", "kmem_cache_free"], "other", 20),
    ("hackbench", BLOCK, "switch", 24),
    ("hackbench", BLOCK + ["pick_next_task_fair"], "pick", 17),
    ("hackbench", BLOCK + ["pick_next_task_fair", "pick_eevdf"], "pick", 11),
    ("hackbench", BLOCK + ["pick_next_task_fair", "set_next_entity"], "pick", 8),
    ("hackbench", BLOCK + ["dequeue_task_fair", "dequeue_entities"], "queue", 14),
    ("hackbench", BLOCK + ["dequeue_task_fair", "dequeue_entities", "update_curr"], "load", 10),
    ("hackbench", BLOCK + ["sched_balance_newidle"], "balance", 9),
    ("hackbench", BLOCK + ["sched_balance_newidle", "sched_balance_rq", "sched_balance_find_src_group"], "balance", 27),
    ("hackbench", BLOCK + ["sched_balance_newidle", "sched_balance_rq", "sched_balance_find_src_group", "update_sd_lb_stats"], "balance", 30),
    ("hackbench", BLOCK + ["sched_balance_newidle", "sched_balance_rq", "detach_tasks", "can_migrate_task"], "balance", 13),
    ("hackbench", BLOCK + ["finish_task_switch", "raw_spin_rq_unlock"], "switch", 10),
    ("hackbench", BLOCK + ["switch_mm_irqs_off"], "switch", 12),
    ("hackbench", USER + TIMER + ["sched_tick"], "tick", 5),
    ("hackbench", USER + TIMER + ["sched_tick", "task_tick_fair", "update_curr"], "tick", 6),
    ("hackbench", USER + TIMER + ["rcu_sched_clock_irq"], "other", 3),
    ("schbench", ["0x5604a0b1d6c0", "0x5604a0b1c21b"], None, 48),
    ("schbench", POLL + ["yield_task_fair"], "queue", 9),
    ("schbench", POLL + ["schedule", "__schedule", "pick_next_task_fair"], "pick", 8),
    ("schbench", ENTRY + ["x64_sys_call", "__x64_sys_futex", "do_futex", "futex_wake", "wake_up_q", "try_to_wake_up"], "wake_up", 9),
    ("schbench", ENTRY + ["x64_sys_call", "__x64_sys_futex", "do_futex", "futex_wait", "__futex_wait", "schedule", "__schedule"], "switch", 7),
    ("kworker/u64:3", ["ret_from_fork_asm", "ret_from_fork", "kthread", "worker_thread", "process_one_work", "flush_to_ldisc"], "other", 6),
    ("rcu_preempt", ["ret_from_fork_asm", "ret_from_fork", "kthread", "rcu_gp_kthread", "rcu_gp_fqs_loop", "force_qs_rnp"], "other", 5),
    ("migration/3", ["ret_from_fork_asm", "ret_from_fork", "kthread", "smpboot_thread_fn", "cpu_stopper_thread", "active_load_balance_cpu_stop"], "balance", 4),
    ("swapper/2", ["common_startup_64", "start_secondary", "cpu_startup_entry", "do_idle", "schedule_idle", "__schedule"], "switch", 10),
    ("swapper/2", ["common_startup_64", "start_secondary", "cpu_startup_entry", "do_idle", "flush_smp_call_function_queue", "sched_ttwu_pending"], "wake_up", 9),
    ("swapper/2", ["common_startup_64", "start_secondary", "cpu_startup_entry", "do_idle", "do_softirq", "sched_balance_softirq", "sched_balance_domains"], "balance", 8),
]
# Of functions, as the profile writes them beside their names.
CLASS_OF = {f: "entry" for _, list_, _, _ in STACKS for f in list_ if f.startswith(("entry_", "asm_", "do_syscall_64", "x64_sys_call"))}
for _, list_, class_, _ in STACKS:
    if class_ not in (None, "other"):
        CLASS_OF.setdefault(list_[-1], class_)
HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "a\u2028b\u2029</SCRIPT ", "<!--<script>", "\u202eevil", "x" * 70000]


def ns(samples):
    return round(samples * 1e9 / HZ)


def load(vcpu, vcpus, caches, at):
    """How busy a vCPU is at a part (0 to 1) of the run: caches are not alike, and work comes in waves."""
    cache = vcpu * caches // vcpus
    level = [0.92, 0.74, 0.46, 0.28][cache % 4]
    wave = 0.16 * math.sin(2 * math.pi * (2.6 * at + 0.21 * cache)) + (0.3 if 0.55 < at < 0.63 else 0)
    start = min(1.0, at / 0.05)
    return max(0.02, min(0.99, (level + wave) * start + random.gauss(0, 0.05)))


def times(row):
    busy = row["user"] + row["kernel"]
    return {"samples": round(row["user"] + row["kernel"] + row["idle"] / 8), "idle_ns": ns(row["idle"]), "user_ns": ns(row["user"]),
            "kernel_ns": ns(row["kernel"]), "scheduling_ns": ns(row["scheduling"]), "scheduling_share": row["scheduling"] / busy if busy else 0}


def classes_of(counts, busy):
    return {c: {"ns": ns(counts[c]), "share": counts[c] / busy if busy else 0} for c in CLASSES}


def simulate(shape, windows, window_ns):
    """Samples of each vCPU, stack by stack; windows of them."""
    vcpus = shape["vcpus"]
    per = [{"user": 0, "kernel": 0, "scheduling": 0, "idle": 0} for _ in range(vcpus)]
    per_class = [dict.fromkeys(CLASSES, 0) for _ in range(vcpus)]
    stacks = [0] * len(STACKS)
    weights = [s[3] * (1 if s[2] not in (None, "other") else 4) for s in STACKS]
    out = []
    room = HZ * window_ns / 1e9
    for w in range(windows):
        at = w / windows
        window = {"begin_ns": w * window_ns, "idle_ns": 0, "user_ns": 0, "kernel_ns": 0, "classes": dict.fromkeys(CLASSES, 0), "vcpus": []}
        # A burst of balancing, as where a cache's work comes to an end.
        now = [x * (3.2 if s[2] == "balance" and 0.55 < at < 0.63 else 1) for x, s in zip(weights, STACKS)]
        for v in range(vcpus):
            busy = round(room * load(v, vcpus, shape["caches"], at))
            cell = {"user": 0, "kernel": 0, "scheduling": 0, "idle": round(room) - min(busy, round(room))}
            for i in random.choices(range(len(STACKS)), now, k=busy):
                c = STACKS[i][2]
                stacks[i] += 1
                cell["kernel" if c else "user"] += 1
                if c:
                    per_class[v][c] += 1
                    window["classes"][c] += 1
                    cell["scheduling"] += c != "other"
            for k in cell:
                per[v][k] += cell[k]
            window["idle_ns"] += ns(cell["idle"])
            window["user_ns"] += ns(cell["user"])
            window["kernel_ns"] += ns(cell["kernel"])
            window["exits"] = window.get("exits", 0) + random.randint(20, 60) + (at > 0.5) * 25
            window["switches"] = window.get("switches", 0) + random.randint(200, 320) * busy // 100
            window["vcpus"].append([ns(cell[k]) for k in ("user", "kernel", "scheduling", "idle")])
        window["classes"] = {c: ns(n) for c, n in window["classes"].items()}
        out.append(window)
    return per, per_class, stacks, {"length_ns": window_ns, "begin_ns": 0, "list": out}


def add(list_):
    return {k: sum(row[k] for row in list_) for k in list_[0]}


def profile_of(shape, windows, window_ns):
    per, per_class, stacks, over_time = simulate(shape, windows, window_ns)
    total, by_class = add(per), add(per_class)
    busy = total["user"] + total["kernel"]
    functions, tasks = {}, {}
    for (task, frames, c, _), n in zip(STACKS, stacks):
        functions.setdefault(frames[-1], [0, c or "other"])[0] += n
        row = tasks.setdefault(task, [0, 0])
        row[0] += n
        row[1] += n if c and c != "other" else 0
    groups = {"caches": [], "nodes": []}
    for what, n in (("caches", shape["caches"]), ("nodes", shape["nodes"])):
        each = shape["vcpus"] // n
        for i in range(n):
            row = times(add(per[i * each:(i + 1) * each]))
            row["node"] = i * shape["nodes"] // n
            if what == "caches":
                row["cache"] = i
            groups[what].append(row)
    json_ = times(total)
    json_.update({
        "hz": HZ, "hz_had": HZ * 0.993, "duration_ns": windows * window_ns - window_ns // 2, "classes": classes_of(by_class, busy),
        "vcpus": [dict(times(row), vcpu=i, classes=classes_of(per_class[i], row["user"] + row["kernel"])) for i, row in enumerate(per)],
        "caches": groups["caches"], "nodes": groups["nodes"],
        "tasks": [{"pid": 400 + i, "name": name, "busy_ns": ns(n), "scheduling_ns": ns(s), "scheduling_share": s / n if n else 0}
                  for i, (name, (n, s)) in enumerate(sorted(tasks.items(), key=lambda t: -t[1][0]))],
        "functions": [{"name": name, "ns": ns(n), "share": n / busy, "class": c}
                      for name, (n, c) in sorted(functions.items(), key=lambda f: -f[1][0])[:40]],
        "programs": [{"program": name, "name": f"bpf_prog_{tag}_{name} [bpf]", "ns": ns(n), "share": n / busy, "self_ns": ns(own), "self_share": own / busy}
                     for name, tag, n, own in (("qmap_dispatch", "89c9ea3d857e0ae9", 310, 45), ("qmap_enqueue", "5937137a7888a15d", 120, 80))],
        "switches": 41_337, "switch_ns": 2346.4, "dropped": 0, "windows": over_time, "degraded": [],
    })
    return json_, stacks


def speedscope_of(stacks, name):
    frames, index, samples, weights = [], {}, [], []
    for (task, list_, _, _), n in zip(STACKS, stacks):
        if not n:
            continue
        for f in [task] + list_:
            if f not in index:
                index[f] = len(frames)
                frames.append({"name": f, **({"stasisClass": CLASS_OF[f]} if f in CLASS_OF else {})})
        samples.append([index[f] for f in [task] + list_])
        weights.append(ns(n))
    return {"$schema": "https://www.speedscope.app/file-format-schema.json", "exporter": "stasis 0.1.0", "name": name,
            "activeProfileIndex": 0, "stasisHz": HZ, "shared": {"frames": frames},
            "profiles": [{"type": "sampled", "name": name, "unit": "nanoseconds", "startValue": 0, "endValue": sum(weights),
                          "samples": samples, "weights": weights}]}


def histogram(n, median_ns, spread):
    """As the accounts have them: 64 steps to a power of two, from:count."""
    if not n:
        return {"count": 0}
    drawn = min(n, 4000)
    values = sorted(max(1, round(random.lognormvariate(math.log(median_ns), spread))) for _ in range(drawn))
    steps = {}
    for v in values:
        shift = max(0, v.bit_length() - 7)
        steps[(v >> shift) << shift] = steps.get((v >> shift) << shift, 0) + 1
    scale, rest = n // drawn, n % drawn
    middle = max(steps, key=steps.get)
    counts = {k: c * scale for k, c in steps.items()}
    counts[middle] += rest
    at = lambda q: values[min(drawn - 1, int(q * drawn))]
    return {"count": n, "sum_ns": sum(values) * scale, "max_ns": values[-1], "p50_ns": at(.5), "p90_ns": at(.9), "p99_ns": at(.99),
            "p999_ns": at(.999), "buckets": " ".join("%d:%d" % kv for kv in sorted(counts.items()))}


def exits_of(shape, duration_ns, init):
    accounts = []
    for reason, access, address, n, guest, hand, wait, serve, posted in [
            ("mmio", "write", "0xd0001050", 48213, 190e3, 900, 2600, 4100, True), ("io", "read", "0x3fd", 21877, 31e3, 800, 5200, 350, False),
            ("io", "write", "0x3f8", 20954, 42e3, 850, 9000, 420, True), ("msr_write", "write", "0x6e0", 9120, 610e3, 700, 3100, 280, False),
            ("mmio", "read", "0xd0000060", 4410, 88e3, 940, 4800, 510, False), ("intr", None, None, 15233, 1.1e6, 0, 0, 0, False),
            ("hypercall", "event", "0x5", 812, 2e6, 750, 2900, 190, False), ("mmio", "write", "0xd0002050", 390, 4e6, 1100, 6100, 14000, True)]:
        row = {"reason": reason, "count": n}
        if access:
            row.update(access=access, address=address)
        row["guest"] = histogram(n, guest, 0.9)
        row["hand_off"] = histogram(n if hand else 0, hand, 0.45)
        row["waiting"] = histogram(n if wait else 0, wait, 0.8)
        row["served"] = histogram(n if serve else 0, serve, 0.6)
        row["time_ns"] = sum(row[k].get("sum_ns", 0) for k in (("hand_off",) if posted else ("hand_off", "waiting", "served")))
        accounts.append(row)
    accounts[0]["served"]["not_in_buckets"] = 1234
    accounts.sort(key=lambda a: -a["count"])
    wall = (duration_ns + init) * shape["vcpus"]
    parts = {k: sum(a[k].get("sum_ns", 0) for a in accounts) for k in ("hand_off", "waiting", "served")}
    time = {"wall": wall, "parked": 2 * 11_400_000 * shape["vcpus"], "sampled": int(wall * 0.012), "idle": int(wall * 0.38), **parts}
    time["guest"] = wall - sum(v for k, v in time.items() if k != "wall")
    total = sum(a["count"] for a in accounts if a["reason"] != "intr")
    return {"total": total, "by_reason": {"io": 42831, "mmio": 53013, "msr_write": 9120, "hypercall": 812}, "handed_off": 36219, "posted": 69557,
            "time_ns": time, "accounts": accounts,
            "vcpus": [{"vcpu": v, "exits": total // shape["vcpus"], "time_ns": {k: x // shape["vcpus"] for k, x in time.items()}, "kvm": {"exits": 12345}}
                      for v in range(shape["vcpus"])], "kvm": {"vm": {}, "vcpus": {}}}


def queues_of(shape, duration_ns, path):
    """monitor.csv, and the report's summary of it."""
    cpus = [{"cpu": c, "samples": 0, "torn": 0, "repeats": 0, "unread": 0, "stalls": 0, "idle_with_work": 0, "running_max": 0, "sum": 0}
            for c in range(shape["vcpus"])]
    interval = max(100_000_000, duration_ns // 300)
    rounds = duration_ns // interval
    with open(path, "w", encoding="utf-8") as csv:
        csv.write("time_ns,cpu,running_tasks,clock_ns,switches_total,wakeups_total,wakeups_local_total,run_delay_total_ns,rt_tasks,rr_tasks,"
                  "scx_running_tasks,scx_local_queue_tasks,scx_flags_bits,pid,comm,idle_bool,torn_bool\n")
        for r in range(rounds):
            for c in cpus:
                busy = load(c["cpu"], shape["vcpus"], shape["caches"], r / rounds)
                running = 0 if random.random() > busy else 1 + min(14, int(random.expovariate(1.15 - min(busy, 0.95))))
                csv.write('%d,%d,%d,%d,%d,,,,0,0,,,,%d,"%s",%d,0\n' % (412_000_000 + r * interval + c["cpu"] * 700, c["cpu"], running, r * interval, r * 311,
                                                                        412 if running else 0, 'hack"",bench' if running else "swapper/%d" % c["cpu"], not running))
                c["samples"] += 1
                c["sum"] += running
                c["running_max"] = max(c["running_max"], running)
    for c in cpus:
        c["running_mean"] = c.pop("sum") / max(c["samples"], 1)
        c["switches_per_s"] = 3110.0 + 10 * c["cpu"]
        c["last"] = {"time_ns": 1, "idle": True}
    cpus[min(6, len(cpus) - 1)]["idle_with_work"] = 3
    return {"interval_ns": interval, "rounds": rounds, "rounds_late": 0, "rounds_frozen": 1, "samples": rounds * len(cpus), "torn": 0, "repeats": 11,
            "unread": 0, "stall_count": 1, "stalls": [{"cpu": min(9, len(cpus) - 1), "time_ns": 7_400_000_000, "stood_ns": 212_000_000, "clock_ns": 7_188_000_000,
                                                       "running": 3, "pid": 409, "comm": "hackbench"}],
            "cost_ns": {"total": rounds * len(cpus) * 700, "per_sample": 700, "turn_max": 12000}, "schedstats": False, "cpus": cpus, "lacks": []}


def be_hostile(report, speedscope):
    """What must not run, hang or break the page, in every place where a guest has a word."""
    p = report["profile"]
    for i, text in enumerate(HOSTILE):
        p["tasks"][i]["name"] = p["functions"][i]["name"] = text
        speedscope["shared"]["frames"][i]["name"] = text
        report["degraded"].append(text)
        report["monitor"]["stalls"].append({"cpu": i, text[:30]: text, "comm": text, "stood_ns": -1e300})
    p["classes"][HOSTILE[0]] = {"ns": 1, "share": 0.5}
    p["windows"]["list"][1]["vcpus"] = [["x", -1, None, {}], "y", 7]
    p["windows"]["list"][2]["classes"] = {HOSTILE[0]: 10**15, "__proto__": 5}
    p["windows"]["list"][3] = None
    p["caches"][0] = HOSTILE[1]
    p["functions"].append(None)
    report["exits"]["accounts"][0]["served"] = {"count": "many", "buckets": "1:1 nan:3 -5:2 1e400:1 :: 7:" + "9" * 400, "p50_ns": -4}
    report["exits"]["accounts"][1]["reason"] = HOSTILE[0]
    report["exits"]["accounts"].append({})
    report["kernel"]["release"] = report["name"] = report["text"] = HOSTILE[0]
    report["topology"] = HOSTILE[1]
    report["freezes"].append(7)
    report["watches"] = {"not": "a list"}
    deep = report["evidence"]
    for _ in range(300):
        deep["deeper"] = {}
        deep = deep["deeper"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder")
    for name, value in (("nodes", 2), ("caches", 4), ("cores", 2), ("threads", 2), ("windows", 120)):
        arguments.add_argument("--" + name, type=int, default=value)
    arguments.add_argument("--hostile", action="store_true")
    given = arguments.parse_args()
    random.seed(7)
    shape = {"nodes": given.nodes, "caches": given.caches, "vcpus": given.caches * given.cores * given.threads}
    window_ns = 100_000_000
    duration_ns, init = given.windows * window_ns, 412_000_000
    profile, stacks = profile_of(shape, given.windows, window_ns)
    os.makedirs(given.folder, exist_ok=True)
    report = {
        "stasis": "0.1.0", "outcome": "exited", "exit_status": 0, "arch": "x86_64", "host": "kvm-svm", "lab": False, "name": "eevdf-2n4l",
        "command": ["hackbench", "-g", "12", "-l", "40000", "--pipe"],
        "kernel": {"path": "vmlinuz", "release": "6.12.117+deb12-cloud-amd64"},
        "topology": "%dn%dl%dc%dt" % (given.nodes, given.caches, given.cores, given.threads), "vcpus": shape["vcpus"], "memory_bytes": 4 << 30,
        "timing_ns": {"setup": 48_211_000, "guest_start_to_init": init, "command": duration_ns + 31_000_000, "teardown": 9_120_000},
        "exits": exits_of(shape, duration_ns, init),
        "evidence": {"since": "command", "wall_ns": duration_ns, "run_delay_ns": duration_ns * shape["vcpus"] // 250, "noisy": False, "host_load_before": 0.31,
                     "host_load_after": 9.8, "host_stolen_ticks": 0,
                     "vcpus": [{"cpu": v, "vcpu": v, "voluntary_switches": 3100 + v, "involuntary_switches": 40 + v, "minor_faults": 210, "major_faults": 0,
                                "run_ns": duration_ns // 2, "run_delay_ns": duration_ns // 250, "migrations": v % 3} for v in range(shape["vcpus"])]},
        "profile": profile,
        "watches": [{"expression": "scx_exit_kind:4>=1024", "state": "armed", "address": "0xffffffff83a1c2e4", "bytes": 4, "stores": 12, "hits": 1, "rebinds": 0}],
        "monitor": queues_of(shape, duration_ns, os.path.join(given.folder, "monitor.csv")),
        "freezes": [{"cause": "freeze-at", "rendezvous_ns": 48_200, "frozen_ns": 11_400_000, "dump": "d.json"},
                    {"cause": "watch:scx_exit_kind:4>=1024", "rendezvous_ns": 61_900, "frozen_ns": 11_400_000, "dump": "d.json.2"}],
        "degraded": ["freeze: the guest's PV clock of this host can't be held: 11 ms of a freeze were seen by the guest",
                     "profile: user space has no frame pointers in 12 % of the stacks"],
    }
    speedscope = speedscope_of(stacks, report["name"])
    # One of the vCPUs alone makes it noisy: all others together had 16 times less.
    for vcpu in report["evidence"]["vcpus"]:
        delay = next(name for name in ("run_delay_ns", "steal_ns") if name in vcpu)
        vcpu[delay] = 96_000_000 if vcpu["vcpu"] == 1 else 6_000_000 // shape["vcpus"]
    report["evidence"].update({delay: sum(v[delay] for v in report["evidence"]["vcpus"]), "noisy": True, "host_stolen_ticks": 7, "worst_stolen_ticks": 5})
    if given.hostile:
        be_hostile(report, speedscope)
    for name, what in (("report.json", report), ("profile.speedscope.json", speedscope)):
        with open(os.path.join(given.folder, name), "w", encoding="utf-8") as file:
            json.dump(what, file, indent=1)


main()
