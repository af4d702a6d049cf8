#!/usr/bin/env python3
"""Whether a file is a trace as Perfetto draws it whole: what each event has to have, names of what they
refer to, times that go forward on each track, slices that don't overlap.
usage: check_trace.py FILE; says what is in it, or what is wrong."""
import json
import sys


def fail(text, event=None):
    sys.exit(f"{sys.argv[1]}: {text}" + (f": {json.dumps(event)}" if event else ""))


def is_time(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


with open(sys.argv[1], encoding="utf-8") as source:
    trace = json.load(source)
events = trace.get("traceEvents")
if not isinstance(events, list) or trace.get("displayTimeUnit") not in ("ns", "ms"):
    fail("no trace")
if "sampled" not in trace["otherData"]["running_tasks"]:
    fail("does not say how tasks were seen")

processes, threads, last, end, count = set(), set(), {}, {}, {}
for e in events:
    if e["ph"] == "M" and not isinstance(e["args"].get("name", e["args"].get("sort_index")), (str, int)):
        fail("a name that is none", e)
    if e["ph"] == "M" and e["name"] == "process_name":
        processes.add(e["pid"])
    if e["ph"] == "M" and e["name"] == "thread_name":
        if (e["pid"], e["tid"]) in threads:
            fail("two names of one thread", e)
        threads.add((e["pid"], e["tid"]))

for e in events:
    ph = e["ph"]
    count[ph] = count.get(ph, 0) + 1
    if ph not in ("M", "X", "i", "C"):
        fail("an unknown phase", e)
    if e["pid"] not in processes:
        fail("a process without a name", e)
    if ph == "M":
        continue
    if not is_time(e.get("ts")) or not isinstance(e.get("name"), str):
        fail("no time or no name", e)
    track = (e["pid"], "counter", e["name"]) if ph == "C" else (e["pid"], e["tid"])
    if ph != "C" and track not in threads:
        fail("a thread without a name", e)
    if e["ts"] < last.get(track, 0):
        fail("goes back in time", e)
    last[track] = e["ts"]
    if ph == "X":
        if not is_time(e.get("dur")):
            fail("no duration", e)
        # Microseconds with three decimals: half of the last one is rounding's.
        if e["ts"] < end.get(track, 0) - 0.0005:
            fail("overlaps the slice before", e)
        end[track] = e["ts"] + e["dur"]
    elif ph == "i" and e.get("s") not in ("t", "p", "g"):
        fail("no scope", e)
    elif ph == "C" and not (e["args"] and all(is_time(v) for v in e["args"].values())):
        fail("counts nothing", e)
print(f"{count.get('X', 0)} slices, {count.get('i', 0)} marks, {count.get('C', 0)} counts, {len(threads)} threads")
