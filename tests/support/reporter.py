"""Locks under load: they send, wait for answers, and send again what was not answered."""

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from jt709c_gateway.protocol.jt808 import unpack
from tests.support import RedisClient
from tests.support.daemon import Daemon, Lock
from tests.vectors import binary, location

#: Reports on their way at a time; a lock's last 64 are recognised when they come again.
WINDOW = 16


#: When the reports are of: the last hour, so that a lock's next one is newer.
_START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def report(serial: int, device: str = "794308010679") -> bytes:
    """A location report; the same bytes whenever it is asked for."""
    return binary(
        0x0200, location(time=_START + timedelta(seconds=serial)), serial, wire=bytes.fromhex(device)
    )


def answered(frame: bytes) -> int:
    """The serial that a 0x8001 answers."""
    return int.from_bytes(unpack(frame)[12:14], "big")


class Reporter(threading.Thread):
    """One lock with `count` reports in its memory, which it forgets as they are answered."""

    #: Whether it sends again what was not answered within half a second, on the same connection.
    repeats = False

    def __init__(self, daemon: Daemon, device: str, count: int) -> None:
        super().__init__(daemon=True)
        self.device = device
        self.answered: set[int] = set()
        self.answers = 0
        self.sent = 0
        self.error: BaseException | None = None
        self._daemon = daemon
        self._memory = {serial: report(serial, device) for serial in range(1, count + 1)}
        self._deadline = time.monotonic() + 40

    def run(self) -> None:
        """Connect, report, and begin anew when the connection ends, until all is answered."""
        try:
            while self._memory and time.monotonic() < self._deadline:
                try:
                    with self._connect() as lock:
                        self._report(lock)
                except OSError:
                    time.sleep(0.02)
        except BaseException as error:
            self.error = error

    def _connect(self) -> Lock:
        return self._daemon.lock()

    def _report(self, lock: Lock) -> None:
        on_their_way: set[int] = set()
        while self._memory and time.monotonic() < self._deadline:
            for serial in list(self._memory):
                if len(on_their_way) >= WINDOW:
                    break
                if serial not in on_their_way:
                    lock.send(self._memory[serial])
                    self.sent += 1
                    on_their_way.add(serial)
            if not lock.read(0.5):
                if lock.ended:
                    return
                if self.repeats:
                    on_their_way.clear()
            for frame in lock.taken():
                serial = answered(frame)
                self.answers += 1
                self.answered.add(serial)
                self._memory.pop(serial, None)
                on_their_way.discard(serial)


class DatagramReporter(Reporter):
    """The same over UDP, from one address; what gets no answer it sends again."""

    repeats = True

    def _connect(self) -> Lock:
        return self._daemon.datagram_lock()


def published(
    client: RedisClient, prefix: str = "jt709c", kind: str = "location"
) -> Counter[tuple[str, int]]:
    """How often each report, by device and serial, is in the stream."""
    found: Counter[tuple[str, int]] = Counter()
    for event in stream_events(client, prefix):
        if event["kind"] == kind:
            found[event["device"], event["serial"]] += 1
    return found


def stream_events(client: RedisClient, prefix: str = "jt709c") -> list[dict[str, Any]]:
    """All events in the stream."""
    entries = client.call("XRANGE", f"{prefix}:events", "-", "+")
    return [json.loads(fields[5]) for _, fields in entries]
