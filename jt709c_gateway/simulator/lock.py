"""A virtual lock, sans-IO: time and downlink bytes go in, uplink frames come out.

Here is what all locks share: the journey, the memory for reports that weren't answered, sleeping, opening
and closing. How that is said, and what the gateway says, is the `Speech` of its dialect. Whoever owns a lock
calls `start` once, `connected` and `disconnected` as the link comes and goes, `receive` with what arrives,
and `tick` at `next_due`; `now` is seconds since 1970 everywhere. The same options, device id and calls give
the same bytes.
"""

from collections.abc import Hashable
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any, Final

from attrs import Factory, define, field

from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.dialect import Dialect
from jt709c_gateway.simulator.jt701 import Jt701
from jt709c_gateway.simulator.jt705 import Jt705
from jt709c_gateway.simulator.jt709 import Jt709
from jt709c_gateway.simulator.lock_mechanism import LockMechanism, LockMovement
from jt709c_gateway.simulator.options import ID_DIGITS, JT701, JT705, JT709, LockOptions
from jt709c_gateway.simulator.report_buffer import Entry, Report, ReportBuffer
from jt709c_gateway.simulator.vehicle import WAKE_CHARGING, WAKE_RESTART, WAKE_TIMER, Vehicle

_SPEECHES: Final[dict[str, type[Dialect[Any]]]] = {JT709: Jt709, JT705: Jt705, JT701: Jt701}
#: A clock is off by less than this after setting it to whole seconds.
_CLOCK_STEP: Final = 1.0


@define(eq=False)
class VirtualLock:
    """One lock. ValueError for a device id that isn't 1 to 12 digits (jt701: 10)."""

    device: str
    options: LockOptions = field(factory=LockOptions, repr=False)
    counters: Counters = field(factory=Counters, repr=False)
    online: bool = field(default=False, init=False)
    #: False while it sleeps and wants no connection.
    awake: bool = field(default=True, init=False)
    unit: Vehicle = field(init=False, repr=False)
    memory: ReportBuffer = field(
        init=False,
        repr=False,
        default=Factory(lambda self: ReportBuffer(self.options.memory), takes_self=True),
    )
    guard: LockMechanism = field(init=False, repr=False)
    speech: Dialect[Any] = field(init=False, repr=False)
    _phase: float = field(init=False, default=0.0)
    _reports: int = field(init=False, default=0)
    _draining: bool = field(init=False, default=False)
    _report_at: float = field(init=False, default=inf)
    _heartbeat_at: float = field(init=False, default=inf)
    _time_at: float = field(init=False, default=inf)
    #: When it locks by itself.
    _locks_at: float = field(init=False, default=inf)
    #: When it falls asleep, or wakes.
    _turns_at: float = field(init=False, default=inf)

    def __attrs_post_init__(self) -> None:
        digits = ID_DIGITS[self.options.dialect]
        if not (self.device.isascii() and self.device.isdigit() and len(self.device) <= digits):
            raise ValueError(
                f"the id of a {self.options.dialect} has 1 to {digits} digits, unlike {self.device!r}"
            )
        self.device = self.device.lstrip("0") or "0"
        dice = Random(f"{self.options.seed}:{self.device}")
        self._phase = dice.random()
        self.unit = Vehicle.make(self.options.route, self.options.speed_factor, dice)
        self.guard = LockMechanism(
            self.device, self.options, self.unit, self.counters, self._moved, self.options.password
        )
        self.speech = _SPEECHES[self.options.dialect](self)

    @property
    def unanswered(self) -> int:
        """Reports that the gateway hasn't answered yet, sent or not."""
        return self.memory.unanswered

    @property
    def next_due(self) -> float:
        """When `tick` has something to do, in seconds since 1970; an earlier call does no harm."""
        due = min(self._report_at, self._turns_at, self._locks_at, self.speech.due(self.online))
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
        self.speech.start(now)

    def drain(self, now: float) -> None:
        """Make no more reports, stay awake, and only get rid of those that are unanswered."""
        self._draining = self.awake = True
        self._report_at = self._turns_at = self._locks_at = inf
        self.speech.drain()

    def connected(self, now: float) -> list[bytes]:
        """The link is up: what to send first."""
        self.online = True
        frames = self.speech.connected(now)
        if self.options.ask_time and self._time_at == inf:
            self._time_at = now + self.options.ask_time
            frames.append(self.speech.ask_time(first=True))
        if self.options.dynamic_password and self.guard.dynamic_password is None:
            frames.append(self.speech.tell_dynamic_password(now))
        if not self._reports and not self._draining:
            self._report(now, wake=WAKE_RESTART)
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
        if now >= self._locks_at:
            self.guard.close(now)
        if now >= self._report_at:
            self._periodic(now)
        frames = self.speech.tick(now, self.online)
        if not self.online:
            return []
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self.options.heartbeat
            self.counters.heartbeats += 1
            frames.append(self.speech.heartbeat())
        if now >= self._time_at:
            self._time_at = now + self.options.ask_time
            frames.append(self.speech.ask_time(first=False))
        return frames + self._send_due(now)

    def receive(self, data: bytes, now: float, *, datagram: bool = False) -> list[bytes]:
        """Take bytes from the gateway; what to send because of them. Never raises, whatever the bytes."""
        answers = []
        for frame in self.speech.feed(data, datagram):
            answers += self.speech.take(frame, now)
        return answers + self._send_due(now)

    # What the dialect asks of the lock (`Host`).

    def keep(self, entry: Entry, *, first: bool = False) -> None:
        """Put a report into the memory; it goes out when its turn comes, or with `first` before others."""
        self.counters.lost += self.memory.add(entry, connected=self.online, first=first)

    def answered(self, key: Hashable, now: float) -> None:
        """The gateway has answered what was sent under `key`: the lock may forget it."""
        report = self.memory.answered(key)
        if report is not None:
            self.counters.answered += 1
            self.counters.latencies.add(now - report.sent_at)

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

    def _report(self, now: float, wake: int = WAKE_TIMER, movement: LockMovement | None = None) -> None:
        """Make a report of this moment; it goes out when its turn comes."""
        charged = self.unit.advance(now)
        self._reports += 1
        for entry in self.speech.record(now, WAKE_CHARGING if charged else wake, movement):
            self.keep(entry)

    def _moved(self, now: float, movement: LockMovement) -> None:
        """Somebody opened, closed or tried the lock."""
        if movement.action == "unlocked" and self.speech.locks_itself and not self._draining:
            self._locks_at = now + self.options.relock if self.options.relock else inf
        elif movement.action == "locked":
            self._locks_at = inf
        self._report(now, movement=movement)

    def _periodic(self, now: float) -> None:
        """A report, and now and then a card that opens the lock or a hand that closes it."""
        self._report_at += self.options.interval
        if self._report_at <= now:
            self._report_at = now + self.options.interval
        every = self.options.card_every
        turn = (self._reports + int(self._phase * every)) % every if every else None
        if turn == every // 2 and self.unit.unlocked:
            self.guard.close(now)
        elif turn == 0 and not self.unit.unlocked and self._reports:
            self.guard.show_card(f"{int(self.device) % 10**9 + 1:010d}", now)
        else:
            # Whoever opened it has drawn the rope by the next report.
            self.unit.rope_open = self.unit.motor_open
            self._report(now)

    def _send_due(self, now: float) -> list[bytes]:
        """Frames that weren't answered in time, then new ones as far as the window allows."""
        if not self.online:
            return []
        frames = self.memory.overdue(now, self.options.resend_after)
        self.counters.resent += len(frames)
        while len(self.memory.in_flight) < self.speech.window:
            taken = self.memory.take(self.speech.fit)
            if taken is None:
                break
            entries, stored = taken
            keys, frame = self.speech.pack(entries, stored)
            self.memory.sent(Report(frame, len(entries), keys, now, now + self.options.resend_after))
            self.counters.sent += 1
            self.counters.stored += len(entries) if stored else 0
            frames.append(frame)
        return frames
