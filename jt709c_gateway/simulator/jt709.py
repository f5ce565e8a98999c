"""The `jt709` dialect of a virtual lock (docs/protocol.rst §1, §2.1)."""

from collections.abc import Hashable, Sequence
from struct import Struct
from typing import ClassVar, Final

from attrs import define, field

from jt709c_gateway.protocol import jt709, jt808, jt808_messages, lock_event_item, sentences
from jt709c_gateway.protocol.alarms import JT709_ALARMS, alarm_bits
from jt709c_gateway.protocol.device_id import terminal_id
from jt709c_gateway.protocol.framing import BinaryFrame, Frame, Framer, SentenceFrame
from jt709c_gateway.protocol.jt808 import FrameError
from jt709c_gateway.simulator.dialect import Dialect
from jt709c_gateway.simulator.downlink_jt709 import Jt709Downlink
from jt709c_gateway.simulator.lock_mechanism import LockMovement
from jt709c_gateway.simulator.report_buffer import Entry
from jt709c_gateway.simulator.vehicle import WAKE_TIMER, WRONG_PASSWORD

#: Lock events (docs/protocol.rst §1.1): an accepted password, with its result, and a refused one.
_OPENED: Final = 0x01
_OPENED_RESULT: Final = 0x00
_REFUSED: Final = 0x06
#: Opened by a card, outside any fence (docs/protocol.rst §1.1: neither FF nor 1-99).
_CARD_RESULT: Final = 0x65
#: Five wrong passwords raise an alarm, but no public document names its bit: an assumption.
_ALARMS: Final = JT709_ALARMS | {20: WRONG_PASSWORD}
_GENERAL_ANSWER_LENGTH: Final = 5
_CELL = Struct(">HHIH")
_PROTOCOL_VERSION: Final = 7
NETWORK: Final = 4


def lock_event(movement: LockMovement | None) -> dict[int, bytes]:
    """Encode the lock event item of a movement; automatic locking has none."""
    if movement is None or movement.shown is None:
        return {}
    if movement.method == "card":
        value = lock_event_item.encode(
            lock_event_item.CARD_WITH_RESULT, card=int(movement.shown), result=_CARD_RESULT
        )
    elif movement.action == "unlocked":
        value = lock_event_item.encode(_OPENED, password=movement.shown, result=_OPENED_RESULT)
    else:
        value = lock_event_item.encode(_REFUSED, password=movement.shown)
    return {lock_event_item.ITEM: value}


@define(eq=False)
class Jt709(Dialect[Frame]):
    """`7E` frames and grouped sentences."""

    model: ClassVar[str] = "JT709C"

    _wire: bytes = field(init=False, repr=False)
    commands: Jt709Downlink = field(init=False, repr=False)
    _framer: Framer = field(init=False, repr=False, factory=Framer)
    _serial: int = field(init=False, default=0)
    _sentence_serial: int = field(init=False, default=0)
    #: The serial of a pending time request, to tell its answer from a command that sets the clock.
    _asked_time: int | None = field(init=False, default=None)
    _auth_code: bytes | None = field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self._wire = terminal_id(self.lock.device)
        self.commands = Jt709Downlink(self.lock, self, self.model)

    def connected(self, now: float) -> list[bytes]:
        """Return the registration, or the authentication after it."""
        self._framer = Framer()
        return [self._register()] if self.lock.options.register else []

    def feed(self, data: bytes, datagram: bool) -> Sequence[Frame]:
        """Split bytes into frames of both forms."""
        return self._framer.feed_datagram(data) if datagram else self._framer.feed(data)

    def process(self, frame: Frame, now: float) -> list[bytes]:
        """Process an answer or a command."""
        if isinstance(frame, BinaryFrame):
            return self._binary(frame, now)
        if isinstance(frame, SentenceFrame):
            return self._on_sentence(frame, now)
        return self._unreadable()

    def record(self, now: float, wake: int, movement: LockMovement | None) -> list[Entry]:
        """Make a location, with the lock event of a movement."""
        return [Entry(jt808.LOCATION, self._location(now, wake, movement))]

    def fit(self, entries: Sequence[Entry]) -> int:
        """Return how many entries fit into a 0x0704, at least one."""
        length = len(jt808_messages.encode_stored([]))
        for count, entry in enumerate(entries):
            length += jt808_messages.stored_length(entry.body)
            if count and length > jt808.BODY_LENGTH:
                return count
        return len(entries)

    def pack(self, entries: Sequence[Entry], stored: bool) -> tuple[set[Hashable], bytes]:
        """Encode one report, or a 0x0704 with several; the answer has id and serial."""
        kind, body = entries[0].kind, entries[0].body
        if stored:
            kind, body = (
                jt808.STORED_LOCATIONS,
                jt808_messages.encode_stored([entry.body for entry in entries]),
            )
        assert isinstance(kind, int)
        serial = self.next_serial(kind)
        return {(kind, serial)}, jt808.encode(kind, self._wire, serial, body)

    def heartbeat(self) -> bytes:
        """Encode a 0x0002 with battery, signal and state."""
        unit = self.lock.vehicle
        body = jt808_messages.encode_heartbeat(round(unit.battery), unit.signal, int(unit.unlocked))
        return self.encode(jt808.HEARTBEAT, body)

    def ask_time(self, first: bool) -> bytes:
        """Encode a time request, the first as a sentence, later ones as 0x0109."""
        if not first:
            return self.encode(jt808.TIME_REQUEST, b"")
        return self._ask_by_sentence()

    def report_dynamic_password(self, now: float) -> bytes:
        """Send `ELOCK,3,password`."""
        return self.sentence(*sentences.DYNAMIC_PASSWORD, self.lock.mechanism.new_dynamic_password())

    # Also used by `Commands`.

    def encode(self, message_id: int, body: bytes) -> bytes:
        """Encode a frame with the next unused serial."""
        return jt808.encode(message_id, self._wire, self.next_serial(message_id), body)

    def sentence(self, *words: str) -> bytes:
        """Encode a grouped sentence with the next serial."""
        self._sentence_serial = (self._sentence_serial + 1) % 1000
        return sentences.grouped(self.lock.device, self._sentence_serial, *words)

    def answer_location(self, now: float, serial: int) -> None:
        """Make a 0x0201 as the answer to the query `serial`, ahead of other reports."""
        self.lock.vehicle.advance(now)
        body = jt808_messages.encode_location_answer(serial, Jt709._location(self, now, WAKE_TIMER, None))
        self.lock.keep(Entry(jt808.LOCATION_ANSWER, body, kept=False), first=True)

    def next_serial(self, message_id: int) -> int:
        """Return the next serial that no unanswered frame of this id has."""
        self._serial = self._serial + 1 & 0xFFFF
        while self.lock.buffer.awaits((message_id, self._serial)):
            self._serial = self._serial + 1 & 0xFFFF
        return self._serial

    def _location(self, now: float, wake: int, movement: LockMovement | None) -> bytes:
        """Encode a body (docs/protocol.rst §1.1)."""
        unit = self.lock.vehicle
        place = unit.place
        status = jt709.STATUS_FIX | jt709.STATUS_GNSS | (wake & 0x0F) << 24
        status |= jt709.STATUS_MOTOR if unit.motor_open else 0
        status |= jt709.STATUS_ROPE if unit.rope_open else 0
        cell = unit.cell
        items = {
            jt709.BATTERY_PERCENT: bytes([round(unit.battery)]),
            jt709.BATTERY_VOLTS: round(340 + 0.8 * unit.battery).to_bytes(2, "big"),
            jt709.GSM_SIGNAL: bytes([unit.signal]),
            jt709.SATELLITES: bytes([unit.satellites]),
            jt709.NETWORK: bytes([NETWORK]),
            jt709.PROTOCOL_VERSION: _PROTOCOL_VERSION.to_bytes(2, "big"),
            jt709.ODOMETER: unit.odometer_km.to_bytes(4, "big"),
            jt709.CELL: _CELL.pack(cell.mcc, cell.mnc, cell.cell_id, cell.lac),
        }
        return jt709.encode(
            alarm_bits=alarm_bits(unit.alarms, _ALARMS),
            status=status,
            latitude=place.latitude,
            longitude=place.longitude,
            altitude_m=unit.altitude_m,
            speed_kmh=unit.speed_kmh,
            course_deg=place.course,
            time=unit.time(now),
            items=items | lock_event(movement),
        )

    def _register(self) -> bytes:
        """0x0100: province u16, city u16, maker[5], model[20], id[7], plate colour u8. Later 0x0102: code."""
        if self._auth_code is not None:
            return self.encode(jt808.AUTHENTICATION, self._auth_code)
        model = self.model.encode().ljust(20, b"\x00")
        body = bytes(4) + b"SIMUL" + model + self.lock.device[-7:].rjust(7, "0").encode() + b"\x00"
        return self.encode(jt808.REGISTRATION, body)

    def _ask_by_sentence(self) -> bytes:
        frame = self.sentence(*sentences.TIME_REQUEST)
        self._asked_time = self._sentence_serial
        return frame

    def _unreadable(self) -> list[bytes]:
        self.lock.counters.unreadable += 1
        return []

    def _on_sentence(self, frame: SentenceFrame, now: float) -> list[bytes]:
        try:
            sentence = sentences.parse(frame.raw)
        except sentences.SentenceError:
            return self._unreadable()
        if not sentence.grouped or sentence.device != self.lock.device:
            return self._unreadable()
        if sentence.starts[:2] == ("BASE", "2") and sentence.serial == self._asked_time:
            self._asked_time = None
            self.lock.set_clock(now, sentence.arguments[-1])
            return []
        return self.commands.on_sentence(sentence, now)

    def _binary(self, frame: BinaryFrame, now: float) -> list[bytes]:
        try:
            header = jt808.parse_header(frame.payload)
        except FrameError:
            return self._unreadable()
        body = frame.payload[header.body_start :]
        if header.identity.wire != self._wire or header.message_id < 0x8000 or header.encrypted:
            return self._unreadable()
        if header.message_id == jt808.GENERAL_ANSWER:
            self._general_answer(body, now)
        elif header.message_id == jt808.REGISTRATION_ANSWER:
            # Answered serial u16, result u8, code.
            if body[2:3] == b"\x00":
                self._auth_code = body[3:]
                return [self.encode(jt808.AUTHENTICATION, self._auth_code)]
        elif header.message_id == jt808.TIME_ANSWER:
            self._time_answered(body, now)
        else:
            return self.commands.on_binary(header.message_id, header.serial, body, now)
        return []

    def _general_answer(self, body: bytes, now: float) -> None:
        """0x8001: answered serial u16, answered id u16, result u8. Only 0 lets the lock forget the report."""
        if len(body) == _GENERAL_ANSWER_LENGTH and not body[4]:
            key = (int.from_bytes(body[2:4], "big"), int.from_bytes(body[:2], "big"))
            self.lock.answered(key, now)

    def _time_answered(self, body: bytes, now: float) -> None:
        """0x8109: year u16, month, day, hour, minute, second u8, result u8."""
        if len(body) >= 7:
            year = int.from_bytes(body[:2], "big")
            self.lock.set_clock(now, f"{year:04d}" + "".join(f"{value:02d}" for value in body[2:7]))
