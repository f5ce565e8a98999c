"""The `jt701` dialect of a virtual master, a JT701D (docs/protocol.rst §2.2, §2.3, §3).

Positions are `$` records, several stored ones to a frame; movements are P45 sentences, each followed by a
record with the new status; what sub-locks report is passed on. `(P69,0,serial)` answers each, so that no two
with one serial, which is a byte, are under way; that of a sub-lock's report is the sub-lock's own.
"""

import re
from collections.abc import Hashable, Sequence
from math import inf
from typing import ClassVar, Final, Literal

from attrs import define, field

from jt709c_gateway.protocol import jt701, pnn, sentences, sublock
from jt709c_gateway.protocol.alarms import JT701_ALARMS, alarm_bits
from jt709c_gateway.protocol.device_id import master_digits
from jt709c_gateway.protocol.events import Method
from jt709c_gateway.simulator.dialect import Dialect
from jt709c_gateway.simulator.downlink_jt701 import Jt701Downlink
from jt709c_gateway.simulator.lock_mechanism import LockMovement
from jt709c_gateway.simulator.report_buffer import Entry
from jt709c_gateway.simulator.sublocks import SubLocks

_Kind = Literal["record", "sentence"]
_RECORD: Final[_Kind] = "record"
_SENTENCE: Final[_Kind] = "sentence"
_LIVE: Final = 1
#: Unanswered frames; each holds up to ten records, and all share 256 serials.
_WIDEST: Final = 16
#: Seconds between reports of a dynamic password until the gateway echoes it.
_PASSWORD_AGAIN: Final = 60.0
#: P45: where the command came from, and what was verified (docs/protocol.rst §2.2).
_SOURCES: Final[dict[Method, int]] = {"card": 1, "password": 4, "automatic": 5, "dynamic_password": 6}
_STATIC_OPENED: Final = 1
_NO_FENCE_NEEDED: Final = 98
_REFUSED: Final = 0
#: The maximum length of a sentence.
_LONGEST: Final = 1024
_SENTENCE_BYTES = re.compile(rb"\([\x20-\x27\x2a-\x7e]*\)")


@define(eq=False)
class Jt701(Dialect[bytes]):
    """`$` frames and `Pnn` sentences. A frame from the gateway is a sentence, or bytes that are none."""

    locks_itself: ClassVar[bool] = True

    sublocks: SubLocks = field(init=False, repr=False)
    commands: Jt701Downlink = field(init=False, repr=False)
    _pending: bytes = field(init=False, default=b"", repr=False)
    _serial: int = field(init=False, default=0)
    _asked_time: bool = field(init=False, default=False)
    _password_at: float = field(init=False, default=inf)

    def __attrs_post_init__(self) -> None:
        lock = self.lock
        self.sublocks = SubLocks(lock.device, lock.options, lock.vehicle, lock.options.interval)
        self.commands = Jt701Downlink(lock, self, self.sublocks)

    @property
    def window(self) -> int:
        """The maximum number of unanswered frames, limited by the serials."""
        return min(self.lock.options.window, _WIDEST)

    def start(self, now: float) -> None:
        """Start the sub-locks."""
        self.sublocks.start(now)

    def connected(self, now: float) -> list[bytes]:
        """Return no frames: reports come first."""
        self._pending = b""
        return []

    def due(self, online: bool) -> float:
        """Return when a sub-lock reports or the dynamic password is repeated."""
        return min(self.sublocks.due, self._password_at) if online else self.sublocks.due

    def tick(self, now: float, online: bool) -> list[bytes]:
        """Buffer due reports of sub-locks; repeat the dynamic password."""
        for payload, movement in self.sublocks.reports(now):
            sentence = sublock.encode_report(self._identity, self._next_serial(), payload)
            # The answer has the sub-lock's own serial.
            self.lock.keep(Entry(_SENTENCE, sentence, sublock.serial_of(payload)))
            self.lock.counters.sublock_reports += 1
            self.lock.counters.unlocked += movement == "unlocked"
            self.lock.counters.sealed += movement == "locked"
        if not online or now < self._password_at:
            return []
        self._password_at = now + _PASSWORD_AGAIN
        return [pnn.dynamic_password(self.lock.device, self.lock.mechanism.dynamic_password or "")]

    def drain(self) -> None:
        """Stop the reports of sub-locks."""
        self.sublocks.silence()

    def feed(self, data: bytes, datagram: bool) -> Sequence[bytes]:
        """Split bytes into sentences, which may begin with a word here, and other bytes."""
        buffer = self._pending + data
        frames = []
        done = 0
        for found in _SENTENCE_BYTES.finditer(buffer):
            if noise := buffer[done : found.start()].strip():
                frames.append(noise)
            frames.append(found[0])
            done = found.end()
        rest = buffer[done:]
        if datagram or len(rest) > _LONGEST or b"(" not in rest:
            if rest.strip():
                frames.append(rest)
            rest = b""
        self._pending = rest
        return frames

    def process(self, frame: bytes, now: float) -> list[bytes]:
        """Process an answer or a command."""
        if not _SENTENCE_BYTES.fullmatch(frame):
            return self._unreadable()
        if frame[1:2].isdigit():
            return self._grouped(frame, now)
        word, arguments = pnn.parse_down(frame)
        match word, *arguments:
            case "P69", "0", serial:
                if serial.isascii() and serial.isdigit():
                    self.lock.answered(int(serial), now)
            case "P35", *_:
                # The answer that units before the JT701D expect.
                return self._unreadable()
            case "P22", moment:
                return self._time(moment, now)
            case "P52", "2", password:
                if password == self.lock.mechanism.dynamic_password:
                    self._password_at = inf
            case _:
                return self.commands.on_pnn(word, arguments, now)
        return []

    def record(self, now: float, wake: int, movement: LockMovement | None) -> list[Entry]:
        """Make a record, after the P45 of a movement if there is one."""
        entries = []
        if movement is not None:
            serial = self._next_serial()
            entries.append(Entry(_SENTENCE, self._lock_report(now, movement, serial), serial))
        serial = self._next_serial()
        return [*entries, Entry(_RECORD, self._record(now, wake, serial), serial)]

    def fit(self, entries: Sequence[Entry]) -> int:
        """Return the number of records up to a sentence, or 1 for a sentence; 0 if a serial is in use."""
        serials: set[int | None] = set()
        for count, entry in enumerate(entries):
            if entry.serial in serials or self.lock.buffer.awaits(entry.serial):
                return count
            if entry.kind == _SENTENCE:
                return count or 1
            serials.add(entry.serial)
        return len(entries)

    def pack(self, entries: Sequence[Entry], stored: bool) -> tuple[set[Hashable], bytes]:
        """Encode a frame of records, which are answered one by one, or return a sentence."""
        keys: set[Hashable] = {entry.serial for entry in entries}
        if entries[0].kind == _SENTENCE:
            return keys, entries[0].body
        data_type = jt701.STORED if stored else _LIVE
        records = [entry.body for entry in entries]
        return keys, jt701.encode_frame(self.lock.device, jt701.VERSION_JT701D, data_type, records)

    def heartbeat(self) -> bytes:
        """Encode a heartbeat, `@JT`."""
        return pnn.heartbeat(self.lock.device)

    def ask_time(self, first: bool) -> bytes:
        """Encode a time request, `P22,2`."""
        self._asked_time = True
        return pnn.time_request(self.lock.device)

    def report_dynamic_password(self, now: float) -> bytes:
        """Send `P52,2,password` each minute until it is echoed."""
        self._password_at = now + _PASSWORD_AGAIN
        return pnn.dynamic_password(self.lock.device, self.lock.mechanism.new_dynamic_password())

    @property
    def _identity(self) -> str:
        return master_digits(self.lock.device)

    def _next_serial(self) -> int:
        self._serial = self._serial + 1 & 0xFF
        return self._serial

    def _unreadable(self) -> list[bytes]:
        self.lock.counters.unreadable += 1
        return []

    def _time(self, moment: str, now: float) -> list[bytes]:
        """Set the clock to `ddMMyyHHmmss`, from an answer or a command, whose result is reported."""
        if not self._asked_time:
            self.lock.counters.commands += 1
        taken = self.lock.set_clock(now, f"20{moment[4:6]}{moment[2:4]}{moment[:2]}{moment[6:]}")
        self._asked_time = False
        return [pnn.sentence(self.lock.device, "P22", str(int(taken)))]

    def _grouped(self, frame: bytes, now: float) -> list[bytes]:
        try:
            sentence = sentences.parse(frame)
        except sentences.SentenceError:
            return self._unreadable()
        if not sentence.grouped or sentence.device != self.lock.device:
            return self._unreadable()
        return self.commands.on_sentence(sentence, now)

    def _record(self, now: float, wake: int, serial: int) -> bytes:
        """Encode a record (docs/protocol.rst §2.3), in which 1 means locked, inserted, closed."""
        unit = self.lock.vehicle
        place = unit.place
        status = jt701.STATUS_COVER_CLOSED | jt701.STATUS_ANSWER_WANTED
        status |= 0 if unit.motor_open else jt701.STATUS_MOTOR_LOCKED
        status |= 0 if unit.rope_open else jt701.STATUS_ROPE_INSERTED
        return jt701.encode_record(
            time=unit.time(now),
            latitude=place.latitude,
            longitude=place.longitude,
            fix=True,
            speed_kmh=unit.speed_kmh,
            course_deg=place.course,
            odometer_km=unit.odometer_km,
            satellites=unit.satellites,
            status=status | alarm_bits(unit.alarms, JT701_ALARMS),
            battery=round(unit.battery),
            cell=unit.cell,
            gsm_signal=unit.signal,
            fence_id=None,
            wake_source=wake,
            serial=serial,
        )

    def _lock_report(self, now: float, movement: LockMovement, serial: int) -> bytes:
        unit = self.lock.vehicle
        place = unit.place
        verification = _REFUSED
        if movement.action == "unlocked":
            verification = _STATIC_OPENED if movement.method == "password" else _NO_FENCE_NEEDED
        by_password = movement.method in ("password", "dynamic_password")
        return pnn.lock_report(
            self.lock.device,
            time=unit.time(now),
            latitude=place.latitude,
            longitude=place.longitude,
            fix=True,
            speed_kmh=round(unit.speed_kmh),
            course_deg=place.course,
            source=_SOURCES[movement.method],
            verification=verification,
            card=movement.shown if movement.method == "card" else None,
            password_ok=by_password and movement.action == "unlocked",
            wrong_tries=self.lock.mechanism.tries,
            serial=serial,
            odometer_km=unit.odometer_km,
        )
