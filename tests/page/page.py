#!/usr/bin/python3
"""The page of stasis report in a browser: opened, clicked, searched, and its numbers held against the
files that it was made of. The profile's file in speedscope. TAP.
usage: page.py STASIS [PAYLOAD-FOLDER]; pictures go to $STASIS_PICTURES, if that is set."""
import base64
import collections
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import browser as tests  # noqa: E402
from browser import ok, skip  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
STASIS = os.path.realpath(sys.argv[1])
NARROW = "\u202f"


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def record(work, name, *options):
    folder = os.path.join(work, name)
    subprocess.run([sys.executable, os.path.join(HERE, "make_record.py"), folder, *options], check=True)
    return folder


def report(*arguments):
    return subprocess.run([STASIS, "report", *arguments], capture_output=True, text=True, timeout=60)


def percent(share):
    p = 100 * share
    return (("<" + NARROW + "0.1") if 0 < p < 0.05 else "%.1f" % p if 0 < p < 99.95 else "%.0f" % p) + NARROW + "%"


def stacks_of(folder):
    doc = read(os.path.join(folder, "profile.speedscope.json"))
    names = [f["name"] for f in doc["shared"]["frames"]]
    profile = doc["profiles"][0]
    return [([names[i] for i in s], w) for s, w in zip(profile["samples"], profile["weights"])]


def under(stacks, matches):
    """Time of all stacks that have such a frame."""
    return sum(w for frames, w in stacks if any(matches(f) for f in frames))


def opens(b, path, what):
    b.open(path)
    complaints = b.complaints()
    broken = [e.text for e in b.all(".failed")]
    ok(what + " opens without a complaint", not complaints and not broken, complaints, broken)
    ok("... and asks for nothing", b.js("return performance.getEntriesByType('resource').length") == 0)


# ---- numbers

def numbers(b, folder):
    r, stacks = read(os.path.join(folder, "report.json")), stacks_of(folder)
    p = r["profile"]
    ok("the tile has the scheduler's share", b.text("#tile-scheduling .value") == percent(p["scheduling_share"]), b.text("#tile-scheduling"))
    shown = {e.get_attribute("data-class"): e.text for e in b.all("#classes .figure")}
    want = {c: percent(v["share"]) for c, v in p["classes"].items() if c != "other" and v["ns"]}
    ok("every class that has samples is there with its share", shown == want, shown, want)
    text = b.text("#scheduling")
    ok("... and what a context switch takes", "A context switch took 2.35\u202fµs of pick" in text and "41,337" in text, text[:600])
    shown = b.js("return [...document.querySelectorAll('#nodes tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))")
    nodes = [["node %d" % n["node"], percent((n["user_ns"] + n["kernel_ns"]) / (n["user_ns"] + n["kernel_ns"] + n["idle_ns"])), percent(n["scheduling_share"])]
             for n in p["nodes"]]
    ok("each node has its shares", shown == nodes, shown, nodes)
    ok("samples are not called a rate", "%s samples, which stand for " % "{:,}".format(p["samples"]) in text, text[:300])
    words = b.text("#words")
    ok("a stall is counted as one, not as a queue", "that a queue stood still was seen once" in words, words)
    ok("the words tell the outcome, the shape and the dearest class", all(w in words for w in (
        "exited with status\u00a00", "16 vCPUs in 2 nodes and 4 caches", max((c for c in want), key=lambda c: p["classes"][c]["ns"]))), words)
    first = b.all("#function-rows tr")[0].text
    ok("the first function is the dearest", p["functions"][0]["name"] in first and percent(p["functions"][0]["share"]) in first, first)
    shown = b.js("return [...document.querySelectorAll('#program-rows tr')].map(r => [...r.cells].map(c => c.textContent.trim()))")
    ok("a scheduler's programs are there, dearest first", shown == [[row["program"], percent(row["self_share"]), percent(row["share"])] for row in p["programs"]], shown)
    total = sum(w for _, w in stacks)
    top = {g.get_attribute("data-name"): int(g.get_attribute("data-ns")) for g in b.all("#graph g")[:1]}
    ok("the flame graph is all of the profile", list(top.values()) == [total], top, total)
    tasks = collections.Counter()
    for frames, w in stacks:
        tasks[frames[0]] += w
    shown = b.js("return [...document.querySelectorAll('#graph g')].map(g => [g.dataset.name, +g.dataset.ns])")
    ok("... and has every task's time", all([t, n] in shown for t, n in tasks.items()), shown[:12], tasks)
    accounts = r["exits"]["accounts"]
    rows = b.js("return [...document.querySelectorAll('#exit-rows tr')].map(r => [...r.cells].map(c => c.textContent))")
    ok("every exit is a row, with its count", sorted(row[1] for row in rows) == sorted("{:,}".format(a["count"]) for a in accounts), rows)
    ok("... dearest first", rows[0][1] == "{:,}".format(max(accounts, key=lambda a: a["time_ns"])["count"]), rows[0])
    ok("freezes and watches are there", len(b.all("#freeze-rows tr")) == len(r["freezes"]) and len(b.all("#watch-rows tr")) == 1)
    e = r["evidence"]
    ok("the host is called noisy by the vCPU that fared worst", b.text("#noise") == "The host was noisy: vCPU 1, which fared worst, was ready and had no host CPU for "
       "96.0\u202fms, %s of the time; hosts below it took 7 clock ticks of all its CPUs, 5 of the one that fared worst of those for this run. Times on this page include that." % percent(96e6 / e["wall_ns"]), b.text("#noise"))
    ok("what was degraded is there", [e.text for e in b.all("#degraded-list li")] == r["degraded"])


def over_time(b, folder):
    windows = read(os.path.join(folder, "report.json"))["profile"]["windows"]["list"]
    data = b.js("return JSON.parse(document.getElementById('data').textContent).windows")
    cells = data["cells"]
    for i, name in enumerate(("user_us", "kernel_us", "scheduling_us", "idle_us")):
        want = sum(v[i] for w in windows for v in w["vcpus"]) / 1000
        if abs(sum(cells[name]) - want) > len(cells[name]):
            ok("the heat map's cells add up: " + name, False, sum(cells[name]), want)
            return
    ok("the heat map's cells add up", data["rows"] == len(windows[0]["vcpus"]) and data["columns"] == len(windows))
    ok("... and lie where they were", abs(cells["kernel_us"][3 * len(windows) + 70] * 1000 - windows[70]["vcpus"][3][1]) <= 500)
    ok("times count from COMMAND where there was one", "by class, from COMMAND's start." in b.text("#time"), b.text("#time")[:200])
    ok("what is counted beside samples is there", data["counts"] == {n: [w[n] for w in windows] for n in ("exits", "switches")} and
       len(b.all("#rates [data-of]")) == 2, list(data["counts"]))
    # The last window has ended half way.
    mean = sum(w["exits"] for w in windows) / (len(windows) - 0.5) * 10
    most = max([w["exits"] for w in windows[:-1]] + [2 * windows[-1]["exits"]]) * 10
    ok("... as a rate", b.text("#rates [data-of=exits] .muted") == "{:,.0f} on average, {:,.0f} at most".format(mean, most), b.text("#rates"), mean, most)


# ---- hands

def flame(b, folder):
    stacks = stacks_of(folder)
    total = sum(w for _, w in stacks)
    fill = b.js("return Object.fromEntries([...document.querySelectorAll('#graph g')].map(g => [g.dataset.name, g.querySelector('rect').style.fill]))")
    ok("a function of the scheduler has its class's colour, however little it did itself",
       "c-wake_up" in fill.get("try_to_wake_up", "") and "c-balance" in fill.get("sched_balance_newidle", ""), fill)
    ok("... and what called it has not", "--c-" not in fill.get("sock_def_readable", "--c-"), fill.get("sock_def_readable"))
    frame = next(g for g in b.all("#graph g") if g.get_attribute("data-name") == "unix_stream_recvmsg")
    ns = int(frame.get_attribute("data-ns"))
    ok("a frame has its time", ns == under(stacks, lambda f: f == "unix_stream_recvmsg"), ns)
    b.click(frame.find_element("css selector", "rect"))
    ok("a click on it says so", b.wait(lambda: b.text("#frame-detail").startswith("unix_stream_recvmsg – " + percent(ns / total))), b.text("#frame-detail"))
    wide = b.js("return [...document.querySelectorAll('#graph g')].filter(g => g.dataset.name == 'unix_stream_recvmsg')[0]"
                ".firstChild.getBoundingClientRect().width / document.getElementById('graph').clientWidth")
    ok("... and zooms to it", wide > 0.99, wide)
    b.click(b.one("#zoom-out"))
    ok("zooming out shows all again", b.js("return [...document.querySelectorAll('#graph g')].some(g => g.dataset.name == 'schbench')"))
    ok("... and can't go farther", not b.one("#zoom-out").is_enabled())
    b.one("#search").send_keys("SCHED_BAL")
    want = under(stacks, lambda f: "sched_bal" in f.lower())
    ok("a search finds what has it in its name", b.wait(lambda: b.one("#matched").get_attribute("data-ns") == str(want)), b.text("#matched"), want)
    ok("... and says the share", percent(want / total) in b.text("#matched"), b.text("#matched"))
    b.one("#search").clear()
    b.one("#search").send_keys("no such function")
    ok("a search for nothing finds nothing", b.wait(lambda: "no frame" in b.text("#matched")), b.text("#matched"))
    button = next(e for e in b.all("#function-rows button") if e.text == "_copy_to_iter")
    b.click(button)
    want = under(stacks, lambda f: f == "_copy_to_iter")
    ok("a click on a function looks it up", b.one("#matched").get_attribute("data-ns") == str(want), b.text("#matched"))
    b.one("#search").send_keys(tests.Keys.ESCAPE)
    graph = b.one("#graph")
    graph.send_keys(tests.Keys.ARROW_DOWN)
    ok("arrow keys go down the graph", b.text("#frame-detail").startswith("hackbench"), b.text("#frame-detail"))
    graph.send_keys(tests.Keys.ARROW_RIGHT)
    ok("... and along it", b.text("#frame-detail").startswith("schbench"), b.text("#frame-detail"))
    graph.send_keys(tests.Keys.ENTER)
    ok("Enter zooms", b.one("#zoom-out").is_enabled())
    graph.send_keys(tests.Keys.ESCAPE)
    ok("Escape goes back", not b.one("#zoom-out").is_enabled())


def heat(b):
    picture = "return document.querySelector('#heat canvas').toDataURL() + document.querySelector('#heat .plot canvas').toDataURL()"
    before = b.js(picture)
    ok("the heat map begins with what is busy", b.one("#heat").get_attribute("data-mode") == "busy")
    b.click(b.one("#heat-tools [data-value=scheduling]"))
    ok("its button shows scheduling", b.one("#heat").get_attribute("data-mode") == "scheduling" and b.js(picture) != before)
    pressed = [e.text for e in b.all("#heat-tools [aria-pressed=true]")]
    ok("... and is the one that is pressed", pressed == ["Scheduling"], pressed)
    b.click(b.one("#heat-tools [data-value=busy]"))
    ok("... and back", b.js(picture) == before)
    b.one("#heat .plot canvas").send_keys(tests.Keys.ARROW_RIGHT, tests.Keys.ARROW_RIGHT, tests.Keys.ARROW_DOWN)
    said = b.text("#say")
    ok("arrow keys tell its cells", said.startswith("CPU 1, 0.1") and "busy" in said and "scheduling" in said, said)
    b.click(b.one("#queue-tools [data-value=max]"))
    ok("run queues show their longest", b.one("#queue-heat").get_attribute("data-mode") == "max")


def exits(b, folder):
    accounts = read(os.path.join(folder, "report.json"))["exits"]["accounts"]
    b.click(next(e for e in b.all("#exits th button") if e.text.strip() == "count"))
    rows = b.js("return [...document.querySelectorAll('#exit-rows tr')].map(r => +r.cells[1].textContent.replace(/,/g, ''))")
    ok("a click on a head sorts", rows == sorted((a["count"] for a in accounts), reverse=True), rows)
    b.click(next(e for e in b.all("#exits th button") if e.text.strip() == "count"))
    rows = b.js("return [...document.querySelectorAll('#exit-rows tr')].map(r => +r.cells[1].textContent.replace(/,/g, ''))")
    ok("... and another one the other way", rows == sorted(a["count"] for a in accounts), rows)
    a = next(a for a in accounts if a.get("address") == "0xd0001050")
    b.click(next(e for e in b.all("#exit-rows button") if e.text == "mmio write 0xd0001050"))
    ok("a click on an exit shows its distributions", b.text("#distributions h3 code") == "mmio write 0xd0001050", b.text("#distributions h3"))
    values = [tuple(map(int, word.split(":"))) for word in a["served"]["buckets"].split()]
    bins = {math.floor(4 * math.log2(max(v, 1)) + 1e-9) for v, _ in values}
    shown = len(b.all("#distributions [data-of=served] .bin"))
    ok("... with a bar for each quarter of a doubling", shown == len(bins), shown, len(bins))
    ok("... and the median", "median %.2f%sµs" % (a["served"]["p50_ns"] / 1000, NARROW) in b.text("#distributions [data-of=served]"),
       b.text("#distributions [data-of=served]"))
    ok("... and what found no room in them", "No room was left for 1,234 times" in b.text("#distributions .lost"), b.text("#distributions"))


def schemes(b, work):
    look = "return [getComputedStyle(document.body).backgroundColor, document.querySelector('#heat .plot canvas').toDataURL()]"
    contrast = """
      const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
      const under = e => { while (e && /rgba\\(.*, 0\\)/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement; return getComputedStyle(e || document.body).backgroundColor; };
      return [...document.querySelectorAll('h1, h2, h3, p, td, th, .chip, .note, .label, .value, button:not(:disabled), li, nav a, dt, dd')]
        .filter(e => e.offsetParent && e.textContent.trim() && !e.closest('.unseen') && !e.matches('.unseen')).map(e => {
          const a = light(getComputedStyle(e).color), b = light(under(e)), c = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          return [c, e.tagName + ' ' + e.textContent.trim().slice(0, 30)]; }).sort((x, y) => x[0] - y[0])[0]"""
    seen = {}
    for name in ("light", "dark"):
        b.scheme(name)
        b.wait(lambda: b.js(look)[0] not in [s[0] for s in seen.values()], 5)
        seen[name] = b.js(look)
        least = b.js(contrast)
        ok("%s: every text stands out from what it is on" % name, least[0] >= 4.5, least)
        if "STASIS_PICTURES" in os.environ:
            b.picture(os.path.join(os.environ["STASIS_PICTURES"], "page-%s.png" % name))
    ok("dark is another page, and other colours in its plots", all(x != y for x, y in zip(seen["light"], seen["dark"])))
    pdf = b.pdf()
    ok("it prints", pdf.startswith(b"%PDF") and len(pdf) > 50000, len(pdf))
    with open(os.path.join(os.environ.get("STASIS_PICTURES", work), "page.pdf"), "wb") as file:
        file.write(pdf)
    ok("... and is as before afterwards", b.wait(lambda: b.js(look) == seen["dark"], 5))
    b.scheme("light")
    for pixels in (1280, 800, 390):
        b.width(pixels)
        wide = b.js("return document.documentElement.scrollWidth")
        ok("nothing is cut off at %d pixels" % pixels, wide <= pixels, wide)
    if "STASIS_PICTURES" in os.environ:
        b.picture(os.path.join(os.environ["STASIS_PICTURES"], "page-narrow.png"))
    b.width(1280)


# ---- other pages

def hostile(b, work):
    folder = record(work, "hostile", "--hostile")
    page = os.path.join(folder, "report.html")
    r = report(folder)
    ok("a page is made of a report that lies", r.returncode == 0, r.stderr)
    opens(b, page, "a page of what a guest would like to run")
    ok("none of it ran", b.js("return document.scripts.length") == 3 and not b.all("main img") and "alert(1)" in b.text("#words"))
    b.js("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
    ok("... and none could: the page's policy runs its own scripts only", b.js("return window.ran === undefined"))
    b.complaints()
    words = b.text("#function-rows")
    ok("what it is called is shown as text", "</script><script>alert(1)</script>" in words, words[:300])


def poor(b, work):
    folder = os.path.join(work, "poor")
    os.makedirs(folder)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump({"stasis": "0.1.0", "outcome": "panicked", "exit_status": 126, "profile": [], "exits": 7, "monitor": "none", "degraded": [3, "one"]}, file)
    r = report(folder)
    ok("a page is made of next to nothing", r.returncode == 0 and r.stdout == folder + "/report.html\n", r.stderr)
    opens(b, os.path.join(folder, "report.html"), "it")
    lacks = [e.text for e in b.all("#lacks-list li")]
    ok("it says what it lacks", any(x.startswith("profile.speedscope.json: ") for x in lacks) and any(x.startswith("monitor.csv: ") for x in lacks), lacks)
    ok("... and how it ended", b.text("#outcome") == "! the guest panicked", b.text("#outcome"))
    r = report(os.path.join(folder, "report.json"), "-o", os.path.join(work, "alone.html"))
    ok("a report alone is enough", r.returncode == 0, r.stderr)
    opens(b, os.path.join(work, "alone.html"), "its page")


def large(b, work):
    folder = record(work, "large", "--nodes", "8", "--caches", "64", "--cores", "8", "--windows", "24")
    r = report(folder)
    ok("a page is made of 1,024 vCPUs", r.returncode == 0, r.stderr)
    size = os.path.getsize(os.path.join(folder, "report.html"))
    ok("... of less than 3 MB", size < 3e6, size)
    opens(b, os.path.join(folder, "report.html"), "it")
    took = b.js("const t = performance.getEntriesByType('navigation')[0]; return t.domComplete")
    ok("... within five seconds", took < 5000, took)
    ok("... with a row for each eight", "each 8 vCPUs" in b.text("#heat"))


def real(b, work, payloads):
    payload = os.path.join(payloads, "payload-profile.elf")
    if not os.path.exists(payload) or not os.access("/dev/kvm", os.W_OK):
        skip("a page of a guest that ran", "no KVM or no payload here")
        return
    folder = os.path.join(work, "real")
    os.makedirs(folder)
    empty = os.path.join(work, "empty")
    open(empty, "w", encoding="utf-8").close()
    said = subprocess.run([STASIS, "run", "--no-lab", "-m", "256M", "-k", payload, "-i", empty, "--name", "page-real", "--timeout", "3s", "--profile=500",
                           "--profile-out", folder + "/profile.speedscope.json", "--report", folder + "/report.json"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=dict(os.environ, XDG_RUNTIME_DIR=work))
    if said.returncode != 124:
        skip("a page of a guest that ran", "it could not: " + said.stderr.strip().replace("\n", " ")[-150:])
        return
    r = report(folder)
    ok("a page is made of a guest that ran", r.returncode == 0, r.stderr)
    opens(b, os.path.join(folder, "report.html"), "it")
    total = sum(w for _, w in stacks_of(folder))
    shown = int(b.one("#graph g").get_attribute("data-ns"))
    ok("... and has what its profile has", shown == total, shown, total)
    ok("... from its start, as there was no COMMAND", "by class, from the profile's start." in b.text("#time"), b.text("#time")[:300])


def command(b, work, payloads):
    """Of a guest that says what init says of a COMMAND: it ends with status 7 after a line."""
    payload = os.path.join(payloads, "payload-session.elf")
    if not os.path.exists(payload) or not os.access("/dev/kvm", os.W_OK):
        skip("a page of a COMMAND", "no KVM or no payload here")
        return
    path = os.path.join(work, "command.json")
    said = subprocess.run([STASIS, "run", "--no-lab", "-q", "-m", "256M", "-k", payload, "--name", "page-command", "--timeout", "30s", "--report", path,
                           "--", "true", "--so", "two words"], input="a line\n", capture_output=True, text=True, timeout=60, env=dict(os.environ, XDG_RUNTIME_DIR=work))
    if said.returncode != 7:
        skip("a page of a COMMAND", "it could not: " + said.stderr.strip().replace("\n", " ")[-150:])
        return
    ok("a report has the COMMAND", read(path).get("command") == ["true", "--so", "two words"], read(path).get("command"))
    page = os.path.join(work, "command.html")
    r = report("-o", page, path)
    ok("a page is made of it", r.returncode == 0, r.stderr)
    opens(b, page, "it")
    ok("... and is called so", b.text("#title") == "true --so 'two words'", b.text("#title"))
    ok("... and tells the status", b.text("#outcome") == "✗ exited with status\u00a07", b.text("#outcome"))


def speedscope(b, work, folder):
    what = "speedscope opens the profile"
    into = os.path.join(work, "npm")
    try:
        said = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", into, "speedscope@1.25.0"],
                              capture_output=True, text=True, timeout=120)
        why = said.stderr.strip() if said.returncode else None
    except (OSError, subprocess.TimeoutExpired) as e:
        why = str(e)
    if why is not None:
        skip(what, "npm has no speedscope here: " + why.replace("\n", " ")[:150])
        return
    path = os.path.join(folder, "profile.speedscope.json")
    with open(path, "rb") as file:
        text = "speedscope.loadFileFromBase64(%s, %s)" % (json.dumps("profile.speedscope.json"), json.dumps(base64.b64encode(file.read()).decode()))
    script = os.path.join(work, "profile.js")
    with open(script, "w", encoding="utf-8") as file:
        file.write(text)
    b.open(os.path.join(into, "node_modules/speedscope/dist/release/index.html") + "#localProfilePath=" + script)
    came = b.wait(lambda: "Sandwich" in b.js("return document.body.innerText"), 30)
    errors = [m for m in b.complaints() if "GPU stall" not in m and "WebGL" not in m]
    ok(what, came and not errors, b.js("return document.title + document.body.innerText.slice(0, 300)"), errors)
    if not came:
        return
    b.one("body").send_keys("3")  # its sandwich view: a table of functions
    functions = read(os.path.join(folder, "report.json"))["profile"]["functions"]
    top = functions[0]

    def first():
        text = b.js("return document.body.innerText")
        return min((text.find(f["name"]), f["name"]) for f in functions if f["name"] in text)

    ok("... and has the same function first, with the same time", b.wait(lambda: first()[1] == top["name"] and "%.2fs" % (top["ns"] / 1e9) in
                                                                         b.js("return document.body.innerText")[:first()[0]]),
       b.js("return document.body.innerText.slice(0, 400)"), top)
    if "STASIS_PICTURES" in os.environ:
        b.picture(os.path.join(os.environ["STASIS_PICTURES"], "speedscope.png"))


def main():
    why = tests.lacks()
    if why:
        print("1..0 # SKIP " + why)
        return
    with tempfile.TemporaryDirectory() as work:
        folder = record(work, "a")
        r = report(folder, "-o", os.path.join(work, "page.html"))
        if "built without the page" in r.stderr:
            print("1..0 # SKIP this build has no page: d3 is not installed")
            return
        ok("stasis report makes a page", r.returncode == 0 and r.stdout == os.path.join(work, "page.html") + "\n", r.stdout, r.stderr)
        b = tests.Browser()
        try:
            opens(b, os.path.join(work, "page.html"), "it")
            for test in (numbers, over_time, flame):
                test(b, folder)
            heat(b)
            exits(b, folder)
            schemes(b, work)
            ok("nothing of that made it complain", not b.complaints())
            hostile(b, work)
            poor(b, work)
            large(b, work)
            if len(sys.argv) > 2:
                real(b, work, os.path.realpath(sys.argv[2]))
                command(b, work, os.path.realpath(sys.argv[2]))
            speedscope(b, work, folder)
        finally:
            b.close()
    tests.end()


main()
