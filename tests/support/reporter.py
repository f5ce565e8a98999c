"""Locks under load: they send, wait for answers, and resend unanswered reports."""

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

#: Unanswered reports at a time; the gateway recognises a lock's last 64 when they are repeated.
WINDOW = 16


#: The start of the reports' times, an hour ago, so that a lock's next report is newer.
_START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def report(serial: int, device: str = "794308010679") -> bytes:
    """Return a location report; the same bytes for the same arguments."""
    return binary(
        0x0200, location(time=_START + timedelta(seconds=serial)), serial, wire=bytes.fromhex(device)
    )


def answered(frame: bytes) -> int:
    """Return the serial that a 0x8001 answers."""
    return int.from_bytes(unpack(frame)[12:14], "big")


class Reporter(threading.Thread):
    """A lock with `count` stored reports, which it removes as they are answered."""

    #: Whether it repeats reports without an answer within half a second, on the same connection.
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
        """Connect and report, again after each lost connection, until all reports are answered."""
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
    """The same over UDP, from one address; it repeats unanswered reports."""

    repeats = True

    def _connect(self) -> Lock:
        return self._daemon.datagram_lock()


def published(
    client: RedisClient, prefix: str = "jt709c", kind: str = "location"
) -> Counter[tuple[str, int]]:
    """Return how often each report, by device and serial, is in the stream."""
    found: Counter[tuple[str, int]] = Counter()
    for event in stream_events(client, prefix):
        if event["kind"] == kind:
            found[event["device"], event["serial"]] += 1
    return found


def stream_events(client: RedisClient, prefix: str = "jt709c") -> list[dict[str, Any]]:
    """Return all events in the stream."""
    entries = client.call("XRANGE", f"{prefix}:events", "-", "+")
    return [json.loads(fields[5]) for _, fields in entries]
