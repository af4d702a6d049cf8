#!/usr/bin/env python3
"""Holds what a guest's tools say of its shape (shape_guest.sh) against `stasis topology --json`.

usage: agree.py TOPOLOGY.json GUEST-OUTPUT [TARGET-CPU...]
Prints a line for each check: "ok WHAT", or "no WHAT: why"."""
import json
import re
import sys

MIB = 1 << 20
topology = json.load(open(sys.argv[1], encoding="utf-8"))
targets = [int(word) for word in sys.argv[3:]]
cpus, nodes = topology["cpus"], topology["nodes"]
sections, lines = {}, None
for line in open(sys.argv[2], encoding="utf-8", errors="replace"):
    if line.startswith("== "):
        lines = sections[line[3:].strip()] = []
    elif lines is not None:
        lines.append(line.rstrip("\n"))


def check(what, wrong):
    """wrong: a list of what is not as it should be."""
    print(f"no {what}: {'; '.join(map(str, wrong[:3]))}" if wrong else f"ok {what}")


def differ(pairs):
    """Of (name, wanted, got), those that differ, in words."""
    return [f"{name}: want {want}, got {got}" for name, want, got in pairs if want != got]


def cpu_list(text):
    """"0-2,5" as numbers."""
    found = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


check("the guest came to its end", [] if "end" in sections else ["no end"])
check("nproc", differ([("nproc", [str(len(cpus))], sections.get("nproc"))]))
check("every CPU runs a pinned task",
      differ([("CPUs", [str(c["cpu"]) for c in cpus], sections.get("pinned"))]))

# ---- lscpu
rows = [line.split() for line in sections.get("lscpu-caches", [])[1:]]
want = {(f"L{c['level']}{c['type'][0] if c['level'] == 1 else ''}", str(c["bytes"]), str(c["ways"]),
         c["type"].capitalize(), str(c["level"]), str(c["line_bytes"])) for c in topology["caches"]}
check("lscpu -C: size, ways, type, line", differ([("caches", sorted(want), sorted(map(tuple, rows)))]))
# How many CPUs in a row share one of each cache, the first levels apart.
each = {f"L{c['level']}{c['type'][0] if c['level'] == 1 else ''}": c["cpus_each"] for c in topology["caches"]}
rows = [line.split() for line in sections.get("lscpu-cpus", [])[1:]]
wrong, units = [], {}
for cpu, row in zip(cpus, rows):
    core = (cpu["llc"], cpu["core"])
    wrong += differ([("CPU and node", [str(cpu["cpu"]), str(cpu["node"])], row[:2])])
    # lscpu counts sockets, cores and caches in an order of its own: each must be one of ours.
    for kind, ours, theirs in zip(("socket", "core", "L1d", "L1i", "L2", "L3"),
                                  (cpu["llc"], core, *(cpu["cpu"] // each[name] for name in
                                                       ("L1d", "L1i", "L2", "L3"))),
                                  row[2:4] + row[4].split(":")):
        wrong += differ([(f"CPU {cpu['cpu']}: {kind}", theirs,
                          units.setdefault((kind, ours), theirs))])
for kind in ("socket", "core", "L1d", "L1i", "L2", "L3"):
    numbers = [theirs for (k, _), theirs in units.items() if k == kind]
    wrong += differ([(f"{kind}s apart", len(numbers), len(set(numbers)))])
check("lscpu -e: node, socket, core and caches of each CPU",
      wrong + differ([("rows", len(cpus), len(rows))]))

# ---- numactl
said = {}
for line in sections.get("numactl", []):
    match = re.match(r"node (\d+) (cpus|size): ?(.*)", line)
    if match:
        said[int(match[1]), match[2]] = match[3].split()
check("numactl -H: CPUs of each node",
      differ([(f"node {n['node']}", cpu_list(n["cpus"]),
               [int(c) for c in said.get((n["node"], "cpus"), ["-1"])]) for n in nodes]))
wrong = []
for n in nodes:
    have = int((said.get((n["node"], "size")) or ["-1"])[0])
    # The kernel keeps a part of each node for itself.
    if n["memory_bytes"] and not n["memory_bytes"] / MIB * 0.8 - 200 < have <= n["memory_bytes"] / MIB:
        wrong.append(f"node {n['node']}: {n['memory_bytes'] // MIB} MiB, got {have}")
    if not n["memory_bytes"] and have > 0:
        wrong.append(f"node {n['node']}: no memory, got {have} MiB")
check("numactl -H: memory of each node", wrong)
if len(nodes) > 1:
    matrix = [[int(d) for d in line.split(":")[1].split()]
              for line in sections.get("numactl", []) if re.match(r" +\d+: ", line)]
    check("numactl -H: distances", differ([("matrix", [n["distances"] for n in nodes], matrix)]))

# ---- lstopo
tokens = re.findall(r"L3 L#(\d+)|PU L#\d+ \(P#(\d+)\)|NUMANode L#\d+ \(P#(\d+)",
                    "\n".join(sections.get("lstopo", [])))
caches, llc, seen_nodes = {}, None, set()
for l3, pu, node in tokens:
    if l3:
        llc = int(l3)
    elif pu:
        caches[int(pu)] = llc
    else:
        seen_nodes.add(int(node))
check("lstopo: the last-level cache of each CPU",
      differ([("CPUs", {c["cpu"]: c["llc"] for c in cpus}, caches)]))
check("lstopo: the nodes with memory",
      differ([("nodes", {n["node"] for n in nodes if n["memory_bytes"]}, seen_nodes)]))

# ---- each CPU's own id
ids = {int(c): int(value, 16) for c, value in map(str.split, sections.get("ids", []))}
check("the x2APIC id or MPIDR of each CPU",
      differ([(f"CPU {c['cpu']}", c["id"], ids.get(c["cpu"])) for c in cpus]))

# ---- memory's figures
if any("latency_ns" in n or "bandwidth_mbs" in n for n in nodes):
    said = {int(a): (int(b), int(c)) for a, b, c in map(str.split, sections.get("initiators", []))}
    check("initiators: latency and bandwidth as typed",
          differ([(f"node {n['node']}", (n.get("latency_ns", 0), n.get("bandwidth_mbs", 0)),
                   said.get(n["node"], (0, 0))) for n in nodes]))

# ---- interrupts
if targets:
    moved = [tuple(map(int, m.groups())) for m in
             (re.match(r"irq (\d+) cpu (\d+) (\d+) (\d+)$", l) for l in sections.get("interrupts", []))
             if m]
    irqs = {irq for irq, *_ in moved}
    check(f"interrupts of {len(irqs)} virtio devices arrive at CPUs {targets}",
          [f"irq {i} on CPU {c}: {b} before, {a} after" for i, c, b, a in moved if a <= b]
          + differ([("targets", {(i, c) for i in irqs for c in targets}, {m[:2] for m in moved})])
          + ([] if len(irqs) >= 2 else ["fewer than two devices"]))

# ---- the kernel's own opinion
bad = re.compile(r"warn|bug:|firmware bug|mismatch|conflict|invalid\b|fail|error|stall|lockup|unsupported"
                 r"|not found|incomplete|beyond|exceed", re.I)
harmless = re.compile(r"Correctable Errors collector|report a bug|Spectre|Speculative|MDS|TAA|mitigation"
                      r"|ACPI.*error.*interface", re.I)
check("dmesg says nothing against it",
      [l for l in sections.get("dmesg", []) if bad.search(l) and not harmless.search(l)])
