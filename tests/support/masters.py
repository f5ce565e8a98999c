"""A simulated JT701 master, driven by the test, and the sub-locks behind it."""

import itertools
import time
from datetime import UTC, datetime
from typing import Any

from jt709c_gateway.protocol import jt701, packed_position, sublock
from jt709c_gateway.protocol.events import Cell
from jt709c_gateway.protocol.framing import SentenceFrame
from tests.support.commands import FakeLock

IMEI = "490154203237518"
_masters = itertools.count(8054201001)
_sublocks = itertools.count(1)
_imeis = itertools.count(1)

LORA, BLUETOOTH, LOCKED, COVER = 8, 2, 1, 4
OPEN = sublock.STATUS_MOTOR


def new_master() -> str:
    """Return the id of a master that no other test has."""
    return str(next(_masters))


def new_sublock() -> str:
    """Return the id of a sub-lock that no other test has."""
    return f"E03B6{next(_sublocks):05d}"


def _moment(at: float | None) -> datetime:
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).replace(microsecond=0)


def sublock_report(
    master: str,
    identity: str,
    event: int = 0,
    status: int = 0,
    *,
    serial: int = 0,
    at: float | None = None,
    kind: int = sublock.LOCK_JT709,
    resent: bool = False,
    rest: bytes | None = None,
) -> bytes:
    """Return a sub-lock's report through its master; `at` in epoch seconds, now without."""
    moment = _moment(at)
    own = sublock.encode_jt709(event | (sublock.RESENT if resent else 0), status, 19, 0, None)
    payload = sublock.encode(
        master=packed_position.encode(moment, -25.281482, -57.546568, True, 18.52, 304),
        time=moment,
        peripheral=identity,
        serial=serial & 0xFF,
        battery_volts=3.12,
        battery_percent=88,
        rssi_dbm=-22,
        kind=kind,
        rest=own if rest is None else rest,
    )
    return sublock.encode_report(master, serial, payload)


class Sentences:
    """Divides bytes for a master into sentences, which begin with a letter where they have no id."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[SentenceFrame]:
        *whole, self._rest = (self._rest + data).split(b")")
        return [SentenceFrame(one + b")") for one in whole]


class FakeMaster(FakeLock):
    """A master over TCP. Everything except `P69`, the answer to a report, is a command."""

    def location(self, *_: Any, at: float | None = None, **__: Any) -> bytes:
        """Return a `$` report that wants an answer; its lock is locked."""
        self._serial += 1
        record = jt701.encode_record(
            time=_moment(at),
            latitude=22.5,
            longitude=113.9,
            fix=True,
            speed_kmh=0,
            course_deg=0,
            odometer_km=45,
            satellites=6,
            status=jt701.STATUS_ANSWER_WANTED | jt701.STATUS_ROPE_INSERTED | jt701.STATUS_MOTOR_LOCKED,
            battery=40,
            cell=Cell(460, 0, 4242, 21),
            gsm_signal=20,
            fence_id=None,
            wake_source=1,
            serial=self._serial & 0xFF,
        )
        return jt701.encode_frame(self.device, jt701.VERSION_JT701D, 1, [record])

    def framer(self) -> Sentences:
        """Return the framer of the bytes from the gateway."""
        return Sentences()

    def _is_answer(self, raw: bytes) -> bool:
        return raw.startswith((b"(P69,", b"(P35"))

    def beat(self) -> None:
        """Send a report and wait for its answer: everything written before has arrived by then."""
        self.report()

    def hear(self, identity: str, event: int = 0, status: int = 0, **more: Any) -> None:
        """Send a sub-lock's report and wait until it is answered."""
        self._serial += 1
        self.send(sublock_report(self.device, identity, event, status, serial=self._serial, **more))
        self._until_answered()

    def say(self, *words: str) -> None:
        """Send a `Pnn` sentence."""
        self.send(f"({','.join((self.device, *words))})".encode())

    def next_sublock_unlock(self) -> tuple[int, str, str]:
        """Wait for an unlock of a sub-lock and return its serial, minutes and sub-lock."""
        raw = self.next_command()
        parts = raw[1:-1].decode().split(",")
        assert parts[0] == self.device and parts[3:7] == ["WLNET", "8", "1", "1"], raw
        return int(parts[2]), parts[7], parts[8]

    def take(self, serial: int) -> None:
        """Accept an unlock of a sub-lock, which the master will then try."""
        self.answer(serial, "WLNET", "8", "1", "1")
