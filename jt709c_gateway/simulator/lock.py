"""A virtual JT709C, sans-IO: time and downlink bytes go in, uplink frames come out.

It speaks the `jt709` dialect (PROTOCOL.md §1, §2.1): locations, stored locations, heartbeats, registration,
time requests, lock events, and answers to orders. Whoever owns one calls `start` once, `connected` and
`disconnected` as the link comes and goes, `receive` with what arrives, and `tick` at `next_due`; `now` is
seconds since 1970 everywhere. The same options, device id and calls give the same bytes.
"""

from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Final

from attrs import Factory, define, field

from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.framing import BinaryFrame, Frame, Framer, SentenceFrame
from jt709c_gateway.protocol.jt808 import FrameError
from jt709c_gateway.protocol.lock_events import CARD_WITH_RESULT
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.memory import Memory, Report
from jt709c_gateway.simulator.options import LockOptions
from jt709c_gateway.simulator.orders import Orders
from jt709c_gateway.simulator.unit import WAKE_CHARGING, WAKE_RESTART, WAKE_TIMER, Unit

#: Opened by a card, outside any fence (PROTOCOL.md §1.1: neither FF nor 1-99).
_CARD_RESULT: Final = 0x65
_GENERAL_ANSWER_LENGTH: Final = 5
#: A clock is off by less than this after setting it to whole seconds.
_CLOCK_STEP: Final = 1.0


@define(eq=False)
class VirtualLock:
    """One lock. ValueError for a device id that isn't 1 to 12 digits."""

    device: str
    options: LockOptions = field(factory=LockOptions, repr=False)
    counters: Counters = field(factory=Counters, repr=False)
    online: bool = field(default=False, init=False)
    #: False while it sleeps and wants no connection.
    awake: bool = field(default=True, init=False)
    unit: Unit = field(init=False, repr=False)
    memory: Memory = field(
        init=False, repr=False, default=Factory(lambda self: Memory(self.options.memory), takes_self=True)
    )
    orders: Orders = field(init=False, repr=False)
    _wire: bytes = field(init=False, repr=False)
    _framer: Framer = field(init=False, repr=False, factory=Framer)
    _serial: int = field(init=False, default=0)
    _sentence_serial: int = field(init=False, default=0)
    #: The serial of a time request under way, to tell its answer from an order to set the clock.
    _asked_time: int | None = field(init=False, default=None)
    _auth_code: bytes | None = field(init=False, default=None, repr=False)
    _phase: float = field(init=False, default=0.0)
    _reports: int = field(init=False, default=0)
    _draining: bool = field(init=False, default=False)
    _report_at: float = field(init=False, default=inf)
    _heartbeat_at: float = field(init=False, default=inf)
    _time_at: float = field(init=False, default=inf)
    #: When it falls asleep, or wakes.
    _turns_at: float = field(init=False, default=inf)

    def __attrs_post_init__(self) -> None:
        if not (self.device.isascii() and self.device.isdigit() and len(self.device) <= 12):
            raise ValueError(f"a device id has 1 to 12 digits, unlike {self.device!r}")
        self._wire = bytes.fromhex(self.device.zfill(12))
        self.device = self.device.lstrip("0") or "0"
        dice = Random(f"{self.options.seed}:{self.device}")
        self._phase = dice.random()
        self.unit = Unit.make(self.options.route, self.options.speed_factor, dice)
        self.orders = Orders(self.device, self.options, self.unit, self.counters, self, self.options.password)

    @property
    def unanswered(self) -> int:
        """Reports that the gateway hasn't answered yet, sent or not."""
        return self.memory.unanswered

    @property
    def next_due(self) -> float:
        """When `tick` has something to do, in seconds since 1970; an earlier call does no harm."""
        due = min(self._report_at, self._turns_at)
        if self.online:
            due = min(due, self._heartbeat_at, self._time_at)
            for report in self.memory.in_flight.values():
                return min(due, report.due)
        return due

    def start(self, now: float) -> None:
        """Switch it on; reports, heartbeats and sleep are spread over their intervals from here."""
        self.unit.moved_at = now
        self._report_at = now + self.options.interval * (0.5 + self._phase)
        if self.options.heartbeat:
            self._heartbeat_at = now + self.options.heartbeat * (0.5 + self._phase)
        if self.options.sleep:
            self._turns_at = now + self.options.sleep[0] * (0.5 + self._phase)

    def drain(self, now: float) -> None:
        """Make no more reports, stay awake, and only get rid of those that are unanswered."""
        self._draining = self.awake = True
        self._report_at = self._turns_at = inf

    def connected(self, now: float) -> list[bytes]:
        """The link is up: what to send first."""
        self.online = True
        self._framer = Framer()
        frames = []
        if self.options.register:
            frames.append(self._register())
        if self.options.ask_time and self._time_at == inf:
            self._time_at = now + self.options.ask_time
            frames.append(self._ask_time())
        if self.options.dynamic_password and self.orders.dynamic_password is None:
            frames.append(self.orders.new_dynamic_password())
        if not self._reports and not self._draining:
            self.report(now, wake=WAKE_RESTART)
        self.memory.all_overdue()
        return frames + self._send_due(now)

    def disconnected(self, now: float) -> None:
        """The link is down. What was sent is sent again when it is back; what comes meanwhile is stored."""
        self.online = False
        self.memory.store_live()

    def tick(self, now: float) -> list[bytes]:
        """Let time pass; what is to be sent now, nothing without a link. Look at `awake` afterwards."""
        if now >= self._turns_at:
            self._turn(now)
        if now >= self._report_at:
            self._periodic(now)
        if not self.online:
            return []
        frames = []
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self.options.heartbeat
            self.counters.heartbeats += 1
            body = bytes([round(self.unit.battery), self.unit.signal, int(self.unit.unlocked)])
            frames.append(self.encode(jt808.HEARTBEAT, body))
        if now >= self._time_at:
            self._time_at = now + self.options.ask_time
            frames.append(self.encode(jt808.TIME_REQUEST, b""))
        return frames + self._send_due(now)

    def receive(self, data: bytes, now: float, *, datagram: bool = False) -> list[bytes]:
        """Take bytes from the gateway; what to send because of them. Never raises, whatever the bytes."""
        frames = self._framer.feed_datagram(data) if datagram else self._framer.feed(data)
        answers = []
        for frame in frames:
            answers += self._take(frame, now)
        return answers + self._send_due(now)

    # What `Orders` asks of the lock.

    def encode(self, message_id: int, body: bytes) -> bytes:
        """A frame under the next serial that nothing under way uses."""
        serial = self._next_serial(message_id)
        return jt808.encode(message_id, self._wire, serial, body)

    def sentence(self, *words: str) -> bytes:
        """A grouped sentence under the lock's own next serial."""
        self._sentence_serial = (self._sentence_serial + 1) % 1000
        return sentences.grouped(self.device, self._sentence_serial, *words)

    def report(self, now: float, lock_event: bytes = b"", wake: int = WAKE_TIMER) -> None:
        """Make a location report of this moment; it goes out when its turn comes."""
        charged = self.unit.advance(now)
        body = self.unit.body(now, WAKE_CHARGING if charged else wake, lock_event)
        self._reports += 1
        self.counters.lost += self.memory.add(jt808.LOCATION, body, connected=self.online)

    def answer_location(self, now: float, serial: int) -> None:
        """Make a 0x0201: answered serial u16, then a location body. It overtakes other reports."""
        self.unit.advance(now)
        body = serial.to_bytes(2, "big") + self.unit.body(now, WAKE_TIMER)
        self.counters.lost += self.memory.add(jt808.LOCATION_ANSWER, body, connected=self.online, first=True)

    def set_clock(self, now: float, text: str) -> bool:
        """Set the clock to `yyyyMMddHHmmss`, UTC; False when that is no time of this century."""
        try:
            moment = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return False
        if not 2000 <= moment.year <= 2098:
            return False
        ahead = moment.timestamp() - now
        # The answer names whole seconds only; a clock that agrees with it is left alone.
        if abs(ahead - self.unit.clock_ahead) > _CLOCK_STEP:
            self.unit.clock_ahead = ahead
        return True

    def nap(self, now: float, seconds: float) -> None:
        """Hang up, and come back after so many seconds."""
        if not self._draining:
            self.awake = False
            self._turns_at = now + seconds

    def _turn(self, now: float) -> None:
        self.awake = not self.awake
        if not self.options.sleep:
            self._turns_at = inf
        else:
            self._turns_at = now + self.options.sleep[0 if self.awake else 1]

    def _periodic(self, now: float) -> None:
        """A report, and now and then a card that opens the lock or a hand that closes it."""
        self._report_at += self.options.interval
        if self._report_at <= now:
            self._report_at = now + self.options.interval
        every = self.options.card_every
        turn = (self._reports + int(self._phase * every)) % every if every else None
        if turn == every // 2 and self.unit.unlocked:
            self.unit.motor_open = self.unit.rope_open = False
        if turn == 0 and not self.unit.unlocked and self._reports:
            self.unit.motor_open = True
            self.counters.unlocked += 1
            card = (int(self.device) % 10**9 + 1).to_bytes(4, "big")
            self.report(now, bytes([CARD_WITH_RESULT]) + card + bytes([_CARD_RESULT]))
            return
        # Whoever opened it has drawn the rope by the next report.
        self.unit.rope_open = self.unit.motor_open
        self.report(now)

    def _next_serial(self, message_id: int) -> int:
        self._serial = self._serial + 1 & 0xFFFF
        while (message_id, self._serial) in self.memory.in_flight:
            self._serial = self._serial + 1 & 0xFFFF
        return self._serial

    def _register(self) -> bytes:
        """0x0100: province u16, city u16, maker[5], model[20], id[7], plate colour u8. Later 0x0102: code."""
        if self._auth_code is not None:
            return self.encode(jt808.AUTHENTICATION, self._auth_code)
        model = b"JT709C".ljust(20, b"\x00")
        body = bytes(4) + b"SIMUL" + model + self.device[-7:].rjust(7, "0").encode() + b"\x00"
        return self.encode(jt808.REGISTRATION, body)

    def _ask_time(self) -> bytes:
        frame = self.sentence("BASE", "2", "TIME")
        self._asked_time = self._sentence_serial
        return frame

    def _send_due(self, now: float) -> list[bytes]:
        """Frames that weren't answered in time, then new ones as far as the window allows."""
        if not self.online:
            return []
        frames = self.memory.overdue(now, self.options.resend_after)
        self.counters.resent += len(frames)
        while len(self.memory.in_flight) < self.options.window and (item := self.memory.take()):
            message_id, body, count, stored = item
            serial = self._next_serial(message_id)
            frame = jt808.encode(message_id, self._wire, serial, body)
            self.memory.in_flight[message_id, serial] = Report(
                frame, count, now, now + self.options.resend_after
            )
            self.counters.sent += 1
            self.counters.stored += count if stored else 0
            frames.append(frame)
        return frames

    def _take(self, frame: Frame, now: float) -> list[bytes]:
        if isinstance(frame, BinaryFrame):
            return self._binary(frame, now)
        if isinstance(frame, SentenceFrame):
            return self._on_sentence(frame, now)
        self.counters.unreadable += 1
        return []

    def _on_sentence(self, frame: SentenceFrame, now: float) -> list[bytes]:
        try:
            sentence = sentences.parse(frame.raw)
        except sentences.SentenceError:
            self.counters.unreadable += 1
            return []
        if not sentence.grouped or sentence.device != self.device:
            self.counters.unreadable += 1
            return []
        if sentence.starts[:2] == ("BASE", "2") and sentence.serial == self._asked_time:
            self._asked_time = None
            self.set_clock(now, sentence.arguments[-1])
            return []
        return self.orders.on_sentence(sentence, now)

    def _binary(self, frame: BinaryFrame, now: float) -> list[bytes]:
        try:
            header = jt808.parse_header(frame.payload)
        except FrameError:
            self.counters.unreadable += 1
            return []
        body = frame.payload[header.body_start :]
        if header.identity.wire != self._wire or header.message_id < 0x8000 or header.encrypted:
            self.counters.unreadable += 1
        elif header.message_id == jt808.GENERAL_ANSWER:
            self._answered(body, now)
        elif header.message_id == jt808.REGISTRATION_ANSWER:
            # Answered serial u16, result u8, code.
            if body[2:3] == b"\x00":
                self._auth_code = body[3:]
                return [self.encode(jt808.AUTHENTICATION, self._auth_code)]
        elif header.message_id == jt808.TIME_ANSWER:
            self._time_answered(body, now)
        else:
            return self.orders.on_binary(header.message_id, header.serial, body, now)
        return []

    def _answered(self, body: bytes, now: float) -> None:
        """0x8001: answered serial u16, answered id u16, result u8. Only 0 lets the lock forget the report."""
        if len(body) != _GENERAL_ANSWER_LENGTH or body[4]:
            return
        key = (int.from_bytes(body[2:4], "big"), int.from_bytes(body[:2], "big"))
        report = self.memory.in_flight.pop(key, None)
        if report is not None:
            self.counters.answered += 1
            self.counters.latencies.add(now - report.sent_at)

    def _time_answered(self, body: bytes, now: float) -> None:
        """0x8109: year u16, month, day, hour, minute, second u8, result u8."""
        if len(body) >= 7:
            year = int.from_bytes(body[:2], "big")
            self.set_clock(now, f"{year:04d}" + "".join(f"{value:02d}" for value in body[2:7]))
