"""A proxy between a browser and a daemon that loses answers."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.support import LOOPBACK

_AT_ONCE = 65536


class CuttingProxy:
    """Relays requests; the answers of those whose first line `cut` accepts are lost.

    The connection ends when the daemon has begun to answer, so a request that is cut has been dealt with.
    """

    def __init__(self, port: int) -> None:
        self._target = (LOOPBACK, port)
        self.cut: Callable[[str], bool] = lambda line: False
        #: First lines of the requests whose answers were lost.
        self.lost: list[str] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            _Connection(self, browser, socket.create_connection(self._target))


class _Connection:
    """Two sockets, and whether the answer is to be lost."""

    def __init__(self, proxy: CuttingProxy, browser: socket.socket, daemon: socket.socket) -> None:
        self._proxy = proxy
        self._browser = browser
        self._daemon = daemon
        self._losing: str | None = None
        for pump in (self._ask, self._answer):
            threading.Thread(target=pump, daemon=True).start()

    def _ask(self) -> None:
        while data := self._read(self._browser):
            method, _, rest = data.partition(b" ")
            if method in (b"GET", b"POST"):
                line = f"{method.decode()} {rest.partition(b' ')[0].decode()}"
                self._losing = line if self._proxy.cut(line) else None
            self._daemon.sendall(data)
        self._end()

    def _answer(self) -> None:
        while data := self._read(self._daemon):
            if self._losing is not None:
                self._proxy.lost.append(self._losing)
                break
            try:
                self._browser.sendall(data)
            except OSError:
                break
        self._end()

    @staticmethod
    def _read(source: socket.socket) -> bytes:
        try:
            return source.recv(_AT_ONCE)
        except OSError:
            return b""

    def _end(self) -> None:
        for one in (self._browser, self._daemon):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
