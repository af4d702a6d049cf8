#!/usr/bin/env python3
"""Stops a machine and lets it go on, over and over, through its control socket. Ends 1 if a stop or a
cont fails or takes longer than a rendezvous may, or if the machine's memory or descriptors grow.
usage: qmp_cycles.py SOCKET CYCLES [--pid PID] [--ahead N]; PID is the machine's, where that can be
seen; N cycles are asked for ahead of their answers, which the machine gives in turn."""
import argparse
import json
import os
import socket
import sys
import time

LATE_S = 5  # FREEZE_LIMIT_NS
# The report keeps this many freezes, and memory grows with them.
KEPT = 1000
GROWTH_KIB = 1024

parser = argparse.ArgumentParser()
parser.add_argument("socket")
parser.add_argument("cycles", type=int)
parser.add_argument("--pid", type=int)
parser.add_argument("--ahead", type=int, default=1)
args = parser.parse_args()
cycles, pid = args.cycles, args.pid
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(60)
peer.connect(args.socket)
lines = peer.makefile("rb")
events = {}


def say(*commands):
    peer.sendall(b"".join(json.dumps({"execute": c}).encode() + b"\n" for c in commands))


def answered(command):
    while True:
        line = lines.readline()
        if not line:
            sys.exit(f"{command}: the machine has gone")
        said = json.loads(line)
        if "event" in said:
            events[said["event"]] = events.get(said["event"], 0) + 1
        elif said.get("return") == {}:
            return
        else:
            sys.exit(f"{command}: {said}")


def sample():
    """Private memory in KiB, and descriptors. The guest's own memory is mapped privately, too: all
    of it has to be touched before."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        private = [int(line.split()[1]) for line in f if line.startswith("Private_Dirty")]
    return private[0], len(os.listdir(f"/proc/{pid}/fd"))


assert b"QMP" in lines.readline()
say("qmp_capabilities")
answered("qmp_capabilities")
begin = time.monotonic()
took = {"stop": [], "cont": []}
first = None
asked = 0
for done in range(1, cycles + 1):
    while asked < min(cycles, done - 1 + args.ahead):
        say("stop", "cont")
        asked += 1
    for command in took:
        at = time.monotonic()
        answered(command)
        took[command].append(time.monotonic() - at)
    if done % max(cycles // 10, 1):
        continue
    now = sample() if pid else ""
    print(f"# {done} cycles in {time.monotonic() - begin:.0f} s {now}", flush=True)
    if pid and done >= KEPT:
        first = first or now
        if now[0] > first[0] + GROWTH_KIB or now[1] > first[1]:
            sys.exit(f"it grows: {first} to {now} (KiB, descriptors)")
for command, times in took.items():
    times.sort()
    print(f"# {command}: {times[len(times) // 2] * 1e3:.2f} ms half of the time, "
          f"{times[len(times) * 99 // 100] * 1e3:.2f} ms for 99 %, {times[-1] * 1e3:.1f} ms at most")
    if times[-1] > LATE_S:
        sys.exit(f"a {command} was late")
print(f"# events: {events}")
if events.get("STOP") != cycles or events.get("RESUME") != cycles:
    # The last one may follow its answer.
    if abs(events.get("STOP", 0) - cycles) > 1 or abs(events.get("RESUME", 0) - cycles) > 1:
        sys.exit("not as many events as cycles")
