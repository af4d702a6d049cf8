#!/usr/bin/env python3
"""Says things to a control socket that no good client says, and a few that one does.
usage: qmp_client.py SOCKET abuse|COMMAND; abuse exits 0 if the machine answers as it should after
all of it; COMMAND (inject-nmi, quit, …) is executed, and every event up to the end is printed."""
import json
import socket
import sys

path, what = sys.argv[1:]


class Client:
    def __init__(self, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        assert "QMP" in self.line()
        if negotiate:
            assert self.ask("qmp_capabilities") == {}

    def line(self):
        text = self.file.readline()
        return json.loads(text) if text else None

    def say(self, data):
        self.socket.sendall(data)

    def answer(self):
        while True:
            line = self.line()
            if "event" not in line:
                return line

    def ask(self, command):
        self.say(json.dumps({"execute": command}).encode())
        return self.answer()["return"]


def abuse():
    good = Client()

    def alive():
        assert good.ask("query-status")["status"] == "running"

    for data in (b"\xff" * 1000, b"@" * 100000, b"{" * 100000, b"[" * 3000 + b"]" * 3000,
                 b'{"execute":"' + b"x" * 200000 + b'"}', b"}" * 5000, b"\0" * 5000,
                 b'{"execute":{"execute":"quit"}}', b'"' * 99999, b'{"a":' * 2000):
        bad = Client(negotiate=False)
        try:
            bad.say(data)
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            pass
        alive()
        bad.socket.close()
    for _ in range(100):
        gone = Client()
        gone.say(b'{"execute":"query-cpus-fast"}' * 20)
        gone.socket.close()
    alive()
    crowd = []
    for _ in range(40):
        one = socket.socket(socket.AF_UNIX)
        one.connect(path)
        crowd.append(one)
    alive()
    for one in crowd:
        one.close()
    # In step again on the same connection.
    good.say(b'{"execute": "query-na\xff\n')
    assert good.answer()["error"]["class"] == "GenericError"
    alive()
    good.say(b"{'execute':'query-name'}" * 50)
    for _ in range(50):
        assert good.answer()["return"]["name"]


if what == "abuse":
    abuse()
else:
    client = Client()
    client.say(json.dumps({"execute": what}).encode())
    while True:
        said = client.line()
        if said is None:
            break
        print(json.dumps(said))
