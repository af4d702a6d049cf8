#!/usr/bin/env python3
"""Clones of one snapshot at once: each has the memory that it had, a generation id of its own, and
in private memory what it has changed. Each is stopped once it has said what it read, so that all are
there when they are measured, and goes on to its end after it.
usage: clones_memory.py STASIS DIR CLONES PAGES-CHANGED END"""
import json
import os
import socket
import subprocess
import sys
import time

stasis, folder, count, changed, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
PAGE = 4096
PAGES_FROM, PAGES_TO, PAGES_STEP = 4096, 65536, 16  # payload_chain.c
OWN = 3 << 19  # bytes of each process beside its guest
runtime = os.environ["XDG_RUNTIME_DIR"] + "/stasis/"


class Clone:
    def __init__(self, name):
        self.lines = []
        with open(runtime + name + "/info.json", encoding="utf-8") as file:
            self.pid = json.load(file)["pid"]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(runtime + name + "/qmp")
        self.send("qmp_capabilities")
        self.replies = self.socket.makefile(encoding="utf-8")

    def send(self, command):
        self.socket.sendall(json.dumps({"execute": command}).encode())

    def wait_for(self, event, name):
        for line in self.replies:
            if json.loads(line).get("event") == event:
                return
        raise EOFError(f"{name} ended before it had stopped")

    def private_dirty(self):
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_Dirty"))


def hear(line):
    name, text = line.rstrip("\n").split(": ", 1)
    said.setdefault(name, []).append(text)
    return name


def measure(lines):
    clones = {}
    for line in lines:
        name = hear(line)
        if len(said[name]) == 2:
            clones[name] = Clone(name)
            clones[name].send("stop")
            if len(clones) == count:
                break
    for name, clone in clones.items():
        clone.wait_for("STOP", name)
    if len(clones) < count:
        raise EOFError(f"only {len(clones)} clones came so far")
    dirty = [clone.private_dirty() for clone in clones.values()]
    print(f"{count} clones at once after {time.monotonic() - began:.1f} s")
    for clone in clones.values():
        clone.send("cont")
    return dirty


began = time.monotonic()
said = {}
with subprocess.Popen([stasis, "restore", folder, "--count", str(count), "--name", "m", "--timeout", "120s"],
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as run:
    try:
        dirty = measure(run.stdout)
    except (EOFError, OSError) as error:
        run.terminate()
        sys.exit(str(error))
    for line in run.stdout:
        hear(line)
status = run.wait()
print(f"private dirty memory: {sum(dirty) / (1 << 20):.1f} MiB in all; of a clone {min(dirty) >> 10} to "
      f"{max(dirty) >> 10} KiB, of which {changed * PAGE >> 10} KiB are the pages that it changes")
total = f"{sum(range(PAGES_FROM, PAGES_TO, PAGES_STEP)):016x}"
wrong = [name for name, text in said.items() if text[0] != total or text[2:] != [end]]
ids = {text[1] for text in said.values()}
if status or wrong or len(said) != count:
    sys.exit(f"status {status}; these had another memory or end: {wrong}")
if len(ids) != count:
    sys.exit(f"{len(ids)} generation ids of {count}")
if min(dirty) < changed * PAGE:
    sys.exit("one has less private memory than it has changed: the measure is wrong")
if sum(dirty) > count * (changed * PAGE + OWN):
    sys.exit("more private memory than the pages changed and each process's own")
