"""Redis without a library: commands out, replies in (RESP2). For TLS wrap the socket with `ssl`."""

import os
import socket
from urllib.parse import unquote, urlsplit


class Redis:
    """One connection to the address in JT709C_REDIS."""

    def __init__(self, timeout=30.0):
        url = urlsplit(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379"))
        self._socket = socket.create_connection((url.hostname, url.port or 6379), timeout)
        self._file = self._socket.makefile("rb")
        if url.password:
            self.call("AUTH", unquote(url.username or "default"), unquote(url.password))

    def call(self, *words):
        """Send one command and wait for its reply: text, number, list or None."""
        data = [str(word).encode() for word in words]
        parts = b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in data)
        self._socket.sendall(b"*%d\r\n%b" % (len(data), parts))
        return self._read()

    def _read(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ValueError(rest.decode())
        if kind == b"+":
            return rest.decode()
        count = int(rest)
        if kind == b":":
            return count
        if count < 0:
            return None
        if kind == b"$":
            return self._file.read(count + 2)[:-2].decode()
        return [self._read() for _ in range(count)]
