"""A proxy between gateway and Redis that can be slow, frozen, cut or closed."""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from tests.support import LOOPBACK

_RESET: Final = struct.pack("ii", 1, 0)


class _Side(asyncio.Protocol):
    """One end of a connection. `arrived` gets received bytes; `ended` is called once at its end."""

    def __init__(self, arrived: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.transport: Any = None
        self._arrived, self._ended = arrived, ended

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._arrived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


class _Way:
    """A client's connection and its connection to the server."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self._over = False
        self._early: list[bytes] = []
        #: Chunks on the way, by direction. They are delivered in sequence.
        self.under_way: dict[bool, deque[Callable[[], None]]] = {True: deque(), False: deque()}
        self.client = _Side(self._up, self.end)
        self.server = _Side(self._down, self.end)

    async def connect(self, port: int) -> None:
        """Connect to the server."""
        try:
            await self._proxy.loop.create_connection(lambda: self.server, LOOPBACK, port)
        except OSError:
            self.end()
            return
        for data in self._early:
            self.server.transport.write(data)
        if self._over:
            self.server.transport.abort()

    def _up(self, data: bytes) -> None:
        self._proxy.hand_on(self, True, lambda: self._write_up(data))

    def _write_up(self, data: bytes) -> None:
        if self.server.transport is None:
            self._early.append(data)
        elif not self._over:
            self.server.transport.write(data)

    def _down(self, data: bytes) -> None:
        self._proxy.hand_on(self, False, lambda: self._write_down(data))

    def _write_down(self, data: bytes) -> None:
        if self._over:
            return
        left = self._proxy.allowance
        if left is not None:
            self._proxy.allowance = left = left - len(data)
            if left < 0:
                self.client.transport.write(data[:left])
                self._proxy.allowance = None
                self._proxy.cuts += 1
                self.end(politely=True)
                return
        self.client.transport.write(data)

    def arrive(self, up: bool) -> None:
        """Deliver the oldest chunk."""
        self.under_way[up].popleft()()

    def end(self, politely: bool = False) -> None:
        """Close both ends; with `politely` the bytes written to the client are still delivered."""
        if self._over:
            return
        self._over = True
        self._proxy.ways.discard(self)
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.close() if politely else side.transport.abort()

    def reset(self) -> None:
        """Close both ends, the client's with a reset."""
        if self.client.transport is not None:
            with suppress(OSError):
                peer = self.client.transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.end()


class Proxy:
    """Relays bytes to `port` on loopback from a thread, and injects faults on request."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.ways: set[_Way] = set()
        #: Reply bytes to relay before the connection is cut; None: no limit.
        self.allowance: int | None = None
        #: Number of connections cut that way.
        self.cuts = 0
        self._server_port = port
        self._delay = 0.0
        self._frozen = False
        self._held: list[tuple[_Way, bool, Callable[[], None]]] = []
        self._listener: asyncio.Server | None = None
        #: The port it listens on.
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")

    @property
    def url(self) -> str:
        """Its URL for ``--redis``."""
        return f"redis://{LOOPBACK}:{self.port}"

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def start(self) -> "Proxy":
        """Start the thread and listen."""
        self._thread.start()
        self.accept()
        return self

    def hand_on(self, way: _Way, up: bool, deed: Callable[[], None]) -> None:
        """Relay bytes in sequence, delayed if the proxy is slow or frozen."""
        if self._frozen:
            self._held.append((way, up, deed))
        elif self._delay or way.under_way[up]:
            way.under_way[up].append(deed)
            self.loop.call_later(self._delay, way.arrive, up)
        else:
            deed()

    # Called from the test's thread

    def accept(self) -> None:
        """Accept connections (again)."""

        async def listen() -> None:
            self._listener = await self.loop.create_server(self._came, LOOPBACK, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(listen(), self.loop).result(10)

    def _came(self) -> _Side:
        way = _Way(self)
        self.ways.add(way)
        self.loop.create_task(way.connect(self._server_port))
        return way.client

    def refuse(self) -> None:
        """Close all connections and refuse new ones until `accept`."""

        def deed() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            self._end_all()

        self._in_loop(deed)

    def reset(self) -> None:
        """Reset all connections."""
        self._in_loop(lambda: [way.reset() for way in list(self.ways)])

    def slow(self, seconds: float) -> None:
        """Delay each chunk by `seconds` in each direction; 0: no delay."""

        def deed() -> None:
            self._delay = seconds

        self._in_loop(deed)

    def freeze(self) -> None:
        """Hold all bytes and close nothing until `thaw`."""

        def deed() -> None:
            self._frozen = True

        self._in_loop(deed)

    def thaw(self, lost: bool = False) -> None:
        """Deliver the held bytes, or drop them and their connections if `lost`."""

        def deed() -> None:
            self._frozen = False
            held, self._held = self._held, []
            if lost:
                self._end_all()
            for way, up, write in held:
                if way in self.ways:
                    self.hand_on(way, up, write)

        self._in_loop(deed)

    def cut_after(self, count: int) -> None:
        """Cut a connection after so many further bytes of replies."""

        def deed() -> None:
            self.allowance = count

        self._in_loop(deed)

    def _end_all(self) -> None:
        for way in list(self.ways):
            way.end()

    def stop(self) -> None:
        """Stop the thread."""
        self.refuse()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    def _in_loop(self, deed: Callable[[], Any]) -> None:
        async def carry_out() -> None:
            deed()

        asyncio.run_coroutine_threadsafe(carry_out(), self.loop).result(10)
