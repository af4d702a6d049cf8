#!/usr/bin/env python3
"""Stands for a warm lab on a host whose own KVM runs small guests: the lab's agent as a process, and
between it and clients what the keeper does (src/vm/lab/keeper.c), without an emulated machine.
usage: lab_agent.py STASIS OUTER-RUNTIME-DIR INNER-RUNTIME-DIR; ends when the agent does."""
import os
import selectors
import socket
import struct
import subprocess
import sys

HEAD = "<IIBBH"  # src/vm/lab/frame.h
READY, STOP = 12, 13

program, outer, inner = sys.argv[1:4]
st = os.stat(program)
build = b"%x %x %d.%09d" % (st.st_dev, st.st_ino, st.st_mtime_ns // 10**9, st.st_mtime_ns % 10**9)
agent = subprocess.Popen([program, "lab-agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                         env=dict(os.environ, XDG_RUNTIME_DIR=inner))
os.makedirs(outer + "/stasis", 0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(outer + "/stasis/.lab.sock")
listener.listen(64)
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
selector.register(agent.stdout, selectors.EVENT_READ)
clients = {}  # by id: the socket, and what has come of a frame
ids = {}
from_agent = b""


def pack(session, kind, channel, payload):
    return struct.pack(HEAD, len(payload), session, kind, channel, 0) + payload


def take(data):
    """Whole frames, and what is left."""
    frames = []
    while len(data) >= 12 and len(data) >= 12 + struct.unpack_from("<I", data)[0]:
        length, session, kind, channel, _ = struct.unpack_from(HEAD, data)
        frames.append((session, kind, channel, data[12:12 + length]))
        data = data[12 + length:]
    return frames, data


def tell_agent(data):
    while data:
        data = data[agent.stdin.write(data):]


def tell_client(client, data):
    try:
        clients[client][0].sendall(data)
    except OSError:
        pass


def drop(client):
    gone = clients.pop(client)[0]
    selector.unregister(gone)
    del ids[gone]
    gone.close()
    tell_agent(pack(client, STOP, 0, b""))


last = 0
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            last += 1
            accepted = listener.accept()[0]
            clients[last] = [accepted, b""]
            ids[accepted] = last
            selector.register(accepted, selectors.EVENT_READ)
            tell_client(last, pack(0, READY, 0, build))
        elif key.fileobj is agent.stdout:
            data = os.read(agent.stdout.fileno(), 65536)
            if not data:
                sys.exit(0)
            frames, from_agent = take(from_agent + data)
            for session, kind, channel, payload in frames:
                if session in clients:
                    tell_client(session, pack(0, kind, channel, payload))
        elif key.fileobj in ids:
            client = ids[key.fileobj]
            try:
                data = key.fileobj.recv(65536)
            except OSError:
                data = b""
            if not data:
                drop(client)
                continue
            frames, clients[client][1] = take(clients[client][1] + data)
            for _, kind, channel, payload in frames:
                tell_agent(pack(client, kind, channel, payload))
