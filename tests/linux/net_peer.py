#!/usr/bin/env python3
"""The host's side of net.sh: an echo server, a source and a sink of known bytes.

net_peer.py ADDRESS [MIB]: port 7001 echoes a line; 7002 sends MIB of bytes; 7003 reads as many and
answers with their SHA-256. They are one block of up to 16 MiB, again and again, its turn's number and a
newline before each; 7004 sends that block alone. Says "ready SHA-256-of-the-whole TURNS BYTES", and ends
with its standard input.
"""
import hashlib
import random
import socketserver
import sys
import threading

address = sys.argv[1]
mib = int(sys.argv[2]) if len(sys.argv) > 2 else 1
block = random.Random(1).randbytes(min(mib, 16) << 20)
turns = mib // min(mib, 16)


def whole():
    for turn in range(1, turns + 1):
        yield b"%d\n" % turn
        yield block


total = hashlib.sha256()
size = 0
for part in whole():
    total.update(part)
    size += len(part)


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())


class Source(socketserver.BaseRequestHandler):
    def handle(self):
        for part in whole():
            self.request.sendall(part)


class Block(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(block)


class Sink(socketserver.BaseRequestHandler):
    def handle(self):
        came = hashlib.sha256()
        left = size
        while left > 0:
            got = self.request.recv(1 << 16)
            if not got:
                break
            came.update(got)
            left -= len(got)
        self.request.sendall(came.hexdigest().encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


for port, handler in ((7001, Echo), (7002, Source), (7003, Sink), (7004, Block)):
    threading.Thread(target=Server((address, port), handler).serve_forever, daemon=True).start()
print("ready", total.hexdigest(), turns, size, flush=True)
sys.stdin.read()
