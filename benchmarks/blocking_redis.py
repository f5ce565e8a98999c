"""A blocking connection to Redis."""

import socket
from typing import Any

from common import LOOPBACK, BenchmarkError

from jt709c_gateway.redis.client_protocol import encode_command


class Redis:
    """One blocking connection to the embedded server; just enough to look and to push."""

    def __init__(self, port: int, password: str | None = None) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        if password is not None:
            self.call("AUTH", password)

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one command; its reply, text as bytes."""
        self.send(*arguments)
        return self.reply()

    def send(self, *arguments: str | bytes | int) -> None:
        """Send one command whose reply is waited for later."""
        self._socket.sendall(encode_command(arguments))

    def reply(self) -> Any:
        """The next reply."""
        line = self._file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise BenchmarkError(f"Redis says {line.decode('utf-8', 'replace').strip() or 'nothing any more'}")

    def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def published(self) -> int:
        """How many events the stream has ever been given."""
        if not self.call("EXISTS", "jt709c:events"):
            return 0
        flat = self.call("XINFO", "STREAM", "jt709c:events")
        return int(flat[flat.index(b"entries-added") + 1])

    def close(self) -> None:
        """Let go of the connection."""
        self._file.close()
        self._socket.close()
