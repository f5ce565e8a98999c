"""Simulates locks in a thread: they report, resend, execute commands and lose their connections.

Smaller than the simulator's virtual locks: the observations need each frame, and a test decides when and how
a connection breaks.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jt709c_gateway.protocol import jt709, jt808
from jt709c_gateway.protocol.framing import BinaryFrame, Framer, SentenceFrame
from tests.faults.observations import IssuedCommand, Observations, Reaction, Report
from tests.support import LOOPBACK, wait_until
from tests.support.commands import UNLOCKED, lock_event
from tests.vectors import location

#: Unanswered reports of a lock at a time. The gateway recognises a lock's last 64 when they are repeated.
WINDOW: Final = 6
#: Seconds between two reports of a lock.
PACE: Final = 0.04
#: Seconds after which an unanswered report is sent again over the same connection.
RESEND_AFTER: Final = 1.0
_TICK: Final = 0.01
_RECONNECT: Final = (0.02, 0.1)
_RESET: Final = struct.pack("ii", 1, 0)
_ANSWER: Final = 0x8001
_TEXT: Final = 0x8300
_RESULT: Final = 0x0001


class VirtualLock:
    """One lock, over TCP or UDP. It runs in the fleet's loop."""

    def __init__(self, observations: Observations, device: str, dice: random.Random, pace: float) -> None:
        self.device = device
        #: Whether it makes new reports.
        self.reporting = True
        self._observations = observations
        self._dice = dice
        self._pace = pace
        self._wire = bytes.fromhex(device.zfill(12))
        self._serial = 0
        self._next_report = 0.0
        self._memory: dict[int, Report] = {}
        self._due: dict[int, float] = {}
        self._framer = Framer()
        #: Writes to the gateway; None without a connection.
        self.write: Callable[[bytes], None] | None = None

    @property
    def quiet(self) -> bool:
        """Whether all its reports have been answered."""
        return not self._memory

    def linked(self, write: Callable[[bytes], None]) -> None:
        """Use a new connection: resend unanswered reports before anything new."""
        self.write, self._framer = write, Framer()
        self._due = dict.fromkeys(self._due, 0.0)
        if not self._memory:
            # The gateway learns of a lock by its first report.
            self._make()
        self.tick()

    def unlinked(self) -> None:
        """The connection is lost."""
        self.write = None

    def tick(self) -> None:
        """Make a report when it is time, and send what is due."""
        now = time.monotonic()
        if self.reporting and now >= self._next_report and len(self._memory) < WINDOW:
            self._next_report = now + self._pace * (0.5 + self._dice.random())
            self._make()
        for serial in list(self._memory):
            if self._due.get(serial, 0.0) <= now and self.write is not None:
                self._send(self._memory[serial], now)

    def received(self, data: bytes, datagram: bool = False) -> None:
        """Handle answers and commands from the gateway."""
        framer = Framer() if datagram else self._framer
        for frame in framer.feed_datagram(data) if datagram else framer.feed(data):
            if isinstance(frame, SentenceFrame):
                self._unlock(frame.raw)
            elif isinstance(frame, BinaryFrame):
                self._binary(frame.raw)
            else:
                self._observations.unexpected.append(f"{self.device} got what is no frame: {frame!r}")

    def _number(self) -> int:
        self._serial += 1
        return self._serial

    def _make(self, items: bytes = b"", status: int = jt709.STATUS_FIX, secret: bytes = b"") -> Report:
        """Make a report of now. Its serial and mileage are unique."""
        serial = self._number()
        mileage = bytes([jt709.ODOMETER, 4]) + serial.to_bytes(4, "big")
        moment = datetime.now(UTC).replace(microsecond=0)
        body = location(mileage + items, status=status, time=moment)
        frame = jt808.encode(0x0200, self._wire, serial, body)
        shown = frame
        if secret:
            # The check byte, which may be escaped, would reveal the password.
            shown = frame.replace(secret, b"*" * len(secret))
            shown = shown[: -3 if shown[-3] == 0x7D else -2] + b"*\x7e"
        report = Report(self.device, serial, frame, shown.hex())
        self._observations.add_report(report)
        self._memory[serial] = report
        return report

    def _send(self, report: Report, now: float) -> None:
        assert self.write is not None
        report.sent += 1
        self._observations.sent += 1
        self._due[report.serial] = now + RESEND_AFTER
        self.write(report.frame)

    def _say(self, data: bytes) -> None:
        if self.write is not None:
            self.write(data)

    def _binary(self, raw: bytes) -> None:
        payload = jt808.unpack(raw)
        message, body = int.from_bytes(payload[:2], "big"), payload[12:]
        if message == _ANSWER:
            serial = int.from_bytes(body[:2], "big")
            self._observations.was_answered(self.device, serial, time.monotonic())
            self._memory.pop(serial, None)
            self._due.pop(serial, None)
        elif message == _TEXT:
            command = self._observations.received(self.device, body[1:].decode("ascii", "replace"), raw)
            if command is not None:
                result = payload[10:12] + _TEXT.to_bytes(2, "big") + b"\x00"
                self._say(jt808.encode(_RESULT, self._wire, self._number(), result))
        else:
            self._observations.unexpected.append(
                f"{self.device} got a message that it doesn't know: {raw.hex()}"
            )

    def _unlock(self, raw: bytes) -> None:
        device, _, serial, *words = raw[1:-1].decode("ascii", "replace").split(",")
        if device == self.device and words[:1] == ["BASE"]:
            # The gateway checks that the lock answers at this address.
            self._say(f"({device},1,{serial},{','.join(words)},20261130)".encode())
            return
        if device != self.device or words[:3] != ["ELOCK", "1", "1"]:
            self._observations.unexpected.append(
                f"{self.device} got a sentence that it doesn't know: {raw!r}"
            )
            return
        command = self._observations.received(self.device, words[3], raw)
        if command is None or command.reaction is Reaction.MUTE:
            return
        answer = "0,1" if command.reaction is Reaction.REFUSES else "1"
        self._say(f"({device},1,{serial},ELOCK,1,{answer})".encode())
        if command.reaction is Reaction.OPENS:
            self._open(command)

    def _open(self, command: IssuedCommand) -> None:
        password = command.mark
        command.movement = self._make(lock_event(password=password), UNLOCKED, password.encode())
        # The next report says that it is closed again.
        self._make()
        self.tick()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, lock: VirtualLock) -> None:
        self._lock = lock

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._lock.received(data, datagram=True)

    def error_received(self, exc: Exception) -> None:
        """The port is closed; the report is sent again later."""


class _Stream(asyncio.Protocol):
    def __init__(self, lock: VirtualLock) -> None:
        self._lock = lock
        self.transport: Any = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock.linked(transport.write)

    def data_received(self, data: bytes) -> None:
        if not self.gone.is_set():
            self._lock.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()

    def leave(self) -> None:
        """Detach the lock from this connection."""
        if not self.gone.is_set():
            self.gone.set()
            self._lock.unlinked()


class Fleet:
    """Locks over TCP and UDP, which connect to gateways with fixed ports."""

    def __init__(
        self,
        observations: Observations,
        tcp_ports: int | Sequence[int],
        udp_ports: int | Sequence[int],
        seed: int,
        tcp: int = 8,
        udp: int = 2,
        pace: float = PACE,
    ) -> None:
        self._dice = random.Random(seed)
        first = 794308100000 + seed % 1000 * 100
        ids = [str(first + number) for number in range(tcp + udp)]
        self._streams = [VirtualLock(observations, one, self._dice, pace) for one in ids[:tcp]]
        self._datagrams = [VirtualLock(observations, one, self._dice, pace) for one in ids[tcp:]]
        self._observations = observations
        #: TCP ports of the gateways. A lock that reconnects chooses one of them.
        self._tcp_ports = [tcp_ports] if isinstance(tcp_ports, int) else list(tcp_ports)
        self._udp_ports = [udp_ports] if isinstance(udp_ports, int) else list(udp_ports)
        self._links: dict[VirtualLock, _Stream] = {}
        #: Connections that their locks have abandoned, kept open.
        self._abandoned: list[asyncio.Transport] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        self._thread = threading.Thread(target=self._run, daemon=True, name="fleet")
        self._ending = False
        self.error: BaseException | None = None

    @property
    def devices(self) -> list[str]:
        """The ids of its locks, those over TCP first."""
        return [lock.device for lock in (*self._streams, *self._datagrams)]

    def start(self) -> "Fleet":
        """Start the thread of the locks."""
        self._thread.start()
        return self

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep the error of a callback: it must not look like a silent lock."""
        self.error = self.error or context.get("exception") or RuntimeError(context["message"])

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._loop.close()

    async def _main(self) -> None:
        tasks = [asyncio.ensure_future(self._stay_linked(lock)) for lock in self._streams]
        sockets: list[Any] = []
        try:
            for lock in self._datagrams:
                transport, _ = await self._loop.create_datagram_endpoint(
                    lambda lock=lock: _Datagrams(lock),
                    remote_addr=(LOOPBACK, self._dice.choice(self._udp_ports)),
                )
                lock.linked(transport.sendto)
                sockets.append(transport)
            while not self._ending:
                for lock in (*self._streams, *self._datagrams):
                    lock.tick()
                await asyncio.sleep(_TICK)
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            links = [link.transport for link in self._links.values()]
            for transport in (*sockets, *self._abandoned, *links):
                transport.abort()
            await asyncio.sleep(0.01)

    async def _stay_linked(self, lock: VirtualLock) -> None:
        while True:
            try:
                _, link = await self._loop.create_connection(
                    lambda: _Stream(lock), LOOPBACK, self._dice.choice(self._tcp_ports)
                )
            except OSError:
                pass
            else:
                self._links[lock] = link
                await link.gone.wait()
            await asyncio.sleep(self._dice.uniform(*_RECONNECT))

    def _in_loop(self, deed: Callable[[], None]) -> None:
        """Run a function in the locks' thread and wait for it."""
        done = threading.Event()
        failed: list[BaseException] = []

        def carry_out() -> None:
            try:
                deed()
            except BaseException as error:
                failed.append(error)
            done.set()

        self._loop.call_soon_threadsafe(carry_out)
        assert done.wait(10), "the fleet's loop hangs"
        if failed:
            raise failed[0]

    def _chosen(self, count: int) -> list[_Stream]:
        there = [link for link in self._links.values() if not link.gone.is_set() and link.transport]
        return self._dice.sample(there, min(count, len(there)))

    def reset(self, count: int) -> None:
        """Reset `count` connections. Bytes on the way in either direction are lost."""

        def deed() -> None:
            for link in self._chosen(count):
                peer = link.transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                link.transport.abort()
                link.leave()

        self._in_loop(deed)

    def hang_up(self, count: int) -> None:
        """Close `count` connections normally, with unanswered reports."""

        def deed() -> None:
            for link in self._chosen(count):
                link.transport.close()
                link.leave()

        self._in_loop(deed)

    def vanish(self, count: int) -> None:
        """Reconnect `count` locks without closing their old connections, which stay half open."""

        def deed() -> None:
            for link in self._chosen(count):
                link.transport.pause_reading()
                self._abandoned.append(link.transport)
                link.leave()

        self._in_loop(deed)

    def wait_for(self, more: int, timeout: float = 20.0) -> None:
        """Wait until so many more reports have been answered."""
        goal = self._observations.answered + more
        wait_until(
            lambda: self._observations.answered >= goal or self.error,
            timeout,
            f"of {more} further reports not all were answered",
        )
        self._raise()

    def drain(self, timeout: float = 20.0) -> None:
        """Make no new reports and wait until all have been answered. `Observations.verify` reports the
        rest."""
        for lock in (*self._streams, *self._datagrams):
            lock.reporting = False
        end = time.monotonic() + timeout
        while self._observations.unanswered and time.monotonic() < end and self.error is None:
            time.sleep(0.02)
        self._raise()

    def stop(self) -> None:
        """Stop the thread of the locks."""
        self._ending = True
        self._thread.join(10)
        self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise AssertionError(f"the fleet failed: {self.error!r}") from self.error
