"""An Android phone's adbd, as small as `adb devices`, `shell` and `push` allow, on a TCP port.

    small_adbd.py PORT FOLDER [WRAPPER ...]

`/data`, `/proc` and `/sys` of the phone are folders of FOLDER, which has the phone's properties in `build.prop` and, in
`environment`, variables for its programs. Commands run with /bin/sh; what `taskset` starts runs through WRAPPER (for
example an emulator), where one is given, and leaves what it printed in `programs`. Files in FOLDER steer the phone:
`unauthorized` lets no computer in, `full` has no room for a file, `slow` takes half a minute for each command, `gone`
closes the connection at the next one.

Protocol: https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt and SYNC.TXT.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

COMMANDS = {name: int.from_bytes(name.encode(), "little") for name in ("CNXN", "AUTH", "OPEN", "OKAY", "CLSE", "WRTE")}
NAMES = {number: name for name, number in COMMANDS.items()}
VERSION = 0x01000000
PAYLOAD = 4096


class Stream:
    """One service that the computer has opened."""

    def __init__(self, connection: Connection, own: int, remote: int) -> None:
        self._connection, self._own, self._remote = connection, own, remote
        self._received, self._ready = b"", threading.Condition()
        self._acknowledged = threading.Semaphore(0)
        self._closed = False

    def take(self, data: bytes) -> None:
        with self._ready:
            self._received += data
            self._ready.notify()
        self._connection.send("OKAY", self._own, self._remote)

    def acknowledge(self) -> None:
        self._acknowledged.release()

    def end(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._acknowledged.release()

    def read(self, size: int) -> bytes:
        with self._ready:
            self._ready.wait_for(lambda: len(self._received) >= size or self._closed)
            if len(self._received) < size:
                raise EOFError
            data, self._received = self._received[:size], self._received[size:]
        return data

    def write(self, data: bytes) -> None:
        for begin in range(0, len(data), PAYLOAD):
            self._connection.send("WRTE", self._own, self._remote, data[begin : begin + PAYLOAD])
            self._acknowledged.acquire(timeout=30)

    def close(self) -> None:
        self._connection.send("CLSE", self._own, self._remote)


class Connection:
    """A computer that has connected."""

    def __init__(self, line: socket.socket, phone: Phone) -> None:
        self._line, self._phone = line, phone
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def send(self, command: str, first: int, second: int, data: bytes = b"") -> None:
        number = COMMANDS[command]
        head = struct.pack("<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self._lock:
            self._line.sendall(head + data)

    def close(self) -> None:
        self._line.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        try:
            while True:
                number, first, second, size, _, _ = struct.unpack("<6I", self._receive(24))
                self._handle(NAMES.get(number, ""), first, second, self._receive(size))
        except (EOFError, OSError):
            for stream in self._streams.values():
                stream.end()

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._line.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _handle(self, command: str, first: int, second: int, data: bytes) -> None:
        if command in ("CNXN", "AUTH"):
            if self._phone.has("unauthorized"):
                # A challenge that no key answers: the person at the phone has not agreed yet.
                self.send("AUTH", 1, 0, os.urandom(20))
            else:
                self.send("CNXN", VERSION, PAYLOAD, b"device::ro.product.model=small;\0")
        elif command == "OPEN":
            own = len(self._streams) + 1
            stream = self._streams[own] = Stream(self, own, first)
            self.send("OKAY", own, first)
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self._serve_stream, args=(stream, service), daemon=True).start()
        elif second in self._streams:
            stream = self._streams[second]
            if command == "WRTE":
                stream.take(data)
            elif command == "OKAY":
                stream.acknowledge()
            elif command == "CLSE":
                stream.end()

    def _serve_stream(self, stream: Stream, service: str) -> None:
        try:
            if self._phone.has("gone"):
                self.close()
            elif service.startswith("shell:"):
                stream.write(self._phone.shell(service.removeprefix("shell:")))
            elif service == "sync:":
                self._phone.sync(stream)
            stream.close()
        except (EOFError, OSError):
            pass


class Phone:
    """What the services do."""

    def __init__(self, folder: Path, wrapper: list[str]) -> None:
        self._folder, self._wrapper = folder, wrapper

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def shell(self, command: str) -> bytes:
        if self.has("slow"):
            threading.Event().wait(30)
        tools = self._folder / "tools"
        tools.mkdir(exist_ok=True)
        prop = shlex.quote(str(self._folder / "build.prop"))
        # Android's own: a property by its name, and a mask without 0x.
        self._tool(tools / "getprop", f'sed -n "s/^$1=//p" {prop}')
        self._tool(tools / "taskset", f'echo "$1" >>{shlex.quote(str(self._folder / "masks"))}; shift; exec "$@"')
        if self._wrapper:
            command = re.sub(r"(taskset \w+ )(\S+)", rf"\1{shlex.join(self._wrapper)} \2", command)
        child = subprocess.run(
            ["/bin/sh", "-c", self._inside(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environment(), "PATH": f"{tools}:{os.environ['PATH']}"},
        )
        if "taskset" in command:
            with (self._folder / "programs").open("ab") as log:
                log.write(child.stdout)
        return child.stdout.replace(str(self._folder).encode(), b"")

    def sync(self, stream: Stream) -> None:
        while True:
            kind, size = stream.read(4), struct.unpack("<I", stream.read(4))[0]
            if kind == b"QUIT":
                return
            name = stream.read(size).decode()
            if kind == b"STAT":
                stream.write(b"STAT" + struct.pack("<3I", *self._stat(name)))
            elif kind == b"SEND":
                self._receive_file(stream, Path(self._inside(name.rpartition(",")[0])))

    def _receive_file(self, stream: Stream, path: Path) -> None:
        room = None if not self.has("full") else 1000
        with path.open("wb") as file:
            while True:
                kind, size = stream.read(4), struct.unpack("<I", stream.read(4))[0]
                if kind == b"DONE":
                    break
                data = stream.read(size)
                if room is None:
                    file.write(data)
        message = b"couldn't write file: No space left on device"
        stream.write(
            b"OKAY" + struct.pack("<I", 0) if room is None else b"FAIL" + struct.pack("<I", len(message)) + message
        )

    def _environment(self) -> dict[str, str]:
        file = self._folder / "environment"
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def _stat(self, name: str) -> tuple[int, int, int]:
        try:
            status = Path(self._inside(name)).stat()
        except OSError:
            return 0, 0, 0
        return status.st_mode, status.st_size, int(status.st_mtime)

    def _inside(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(data|proc|sys)/", lambda found: f"{self._folder}/{found[1]}/", text)

    @staticmethod
    def _tool(path: Path, script: str) -> None:
        if not path.exists():
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)


def main() -> None:
    port, folder, wrapper = int(sys.argv[1]), Path(sys.argv[2]).absolute(), sys.argv[3:]
    (folder / "data/local/tmp").mkdir(parents=True, exist_ok=True)
    phone = Phone(folder, wrapper)
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        while True:
            line, _ = server.accept()
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(line, phone).serve, daemon=True).start()


if __name__ == "__main__":
    main()
