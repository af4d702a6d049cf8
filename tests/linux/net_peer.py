#!/usr/bin/env python3
"""The host's side of net.sh: an echo server, a source and a sink of known bytes.

net_peer.py ADDRESS [MIB]: port 7001 echoes a line; 7002 sends MIB of bytes; 7003 reads them to the end
and answers with their SHA-256. Says "ready SHA-256-of-the-bytes", and ends with its standard input.
"""
import hashlib
import random
import socketserver
import sys
import threading

address = sys.argv[1]
mib = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def blocks():
    for i in range(mib):
        yield random.Random(i).randbytes(1 << 20)


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())


class Source(socketserver.BaseRequestHandler):
    def handle(self):
        for block in blocks():
            self.request.sendall(block)


class Sink(socketserver.BaseRequestHandler):
    def handle(self):
        total = hashlib.sha256()
        left = mib << 20
        while left > 0:
            got = self.request.recv(1 << 16)
            if not got:
                break
            total.update(got)
            left -= len(got)
        self.request.sendall(total.hexdigest().encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


for port, handler in ((7001, Echo), (7002, Source), (7003, Sink)):
    threading.Thread(target=Server((address, port), handler).serve_forever, daemon=True).start()
whole = hashlib.sha256()
for one in blocks():
    whole.update(one)
print("ready", whole.hexdigest(), flush=True)
sys.stdin.read()
