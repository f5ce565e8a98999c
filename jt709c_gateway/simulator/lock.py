"""A virtual lock, sans-IO: time and downlink bytes go in, uplink frames come out.

The lock has what all dialects share: the journey, the buffer of unanswered reports, sleeping, opening and
closing. Its `Dialect` encodes and decodes frames. The owner of a lock calls `start` once, `connected` and
`disconnected` when the connection changes, `receive` with received bytes, and `tick` at `next_due`; `now` is
in seconds since 1970. The same options, device id and calls give the same bytes.
"""

from collections.abc import Hashable
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any, Final

from attrs import Factory, define, field

from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.protocol.dialects import JT701, JT705, JT709
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.dialect import Dialect
from jt709c_gateway.simulator.jt701 import Jt701
from jt709c_gateway.simulator.jt705 import Jt705
from jt709c_gateway.simulator.jt709 import Jt709
from jt709c_gateway.simulator.lock_mechanism import LockMechanism, LockMovement
from jt709c_gateway.simulator.options import ID_DIGITS, LockOptions
from jt709c_gateway.simulator.report_buffer import Entry, Report, ReportBuffer
from jt709c_gateway.simulator.vehicle import WAKE_CHARGING, WAKE_RESTART, WAKE_TIMER, Vehicle

_DIALECTS: Final[dict[str, type[Dialect[Any]]]] = {JT709: Jt709, JT705: Jt705, JT701: Jt701}
#: The reports with which the alarms of the options are raised and cleared, counted from 1.
_ALARMS_BEGIN: Final = 2
_ALARMS_END: Final = 7
#: The error in seconds of a clock that was set to whole seconds.
_CLOCK_STEP: Final = 1.0


@define(eq=False)
class VirtualLock:
    """A virtual lock. Raises ValueError unless the device id has 1 to 12 digits (jt701: 10)."""

    device: str
    options: LockOptions = field(factory=LockOptions, repr=False)
    counters: Counters = field(factory=Counters, repr=False)
    online: bool = field(default=False, init=False)
    #: False while it sleeps and wants no connection.
    awake: bool = field(default=True, init=False)
    vehicle: Vehicle = field(init=False, repr=False)
    buffer: ReportBuffer = field(
        init=False,
        repr=False,
        default=Factory(lambda self: ReportBuffer(self.options.memory), takes_self=True),
    )
    mechanism: LockMechanism = field(init=False, repr=False)
    dialect: Dialect[Any] = field(init=False, repr=False)
    _phase: float = field(init=False, default=0.0)
    _reports: int = field(init=False, default=0)
    _draining: bool = field(init=False, default=False)
    _report_at: float = field(init=False, default=inf)
    _heartbeat_at: float = field(init=False, default=inf)
    _time_at: float = field(init=False, default=inf)
    #: When the lock locks by itself.
    _locks_at: float = field(init=False, default=inf)
    #: When the lock falls asleep or wakes.
    _toggle_sleep_at: float = field(init=False, default=inf)

    def __attrs_post_init__(self) -> None:
        digits = ID_DIGITS[self.options.dialect]
        if not (self.device.isascii() and self.device.isdigit() and len(self.device) <= digits):
            raise ValueError(
                f"the id of a {self.options.dialect} has 1 to {digits} digits, unlike {self.device!r}"
            )
        self.device = canonical(self.device)
        dice = Random(f"{self.options.seed}:{self.device}")
        self._phase = dice.random()
        self.vehicle = Vehicle.make(self.options.route, self.options.speed_factor, dice)
        self.mechanism = LockMechanism(
            self.device, self.options, self.vehicle, self.counters, self._moved, self.options.password
        )
        self.dialect = _DIALECTS[self.options.dialect](self)

    @property
    def unanswered(self) -> int:
        """The number of reports that the gateway hasn't answered, sent or not."""
        return self.buffer.unanswered

    @property
    def next_due(self) -> float:
        """When to call `tick`, in seconds since 1970; earlier calls are harmless."""
        due = min(self._report_at, self._toggle_sleep_at, self._locks_at, self.dialect.due(self.online))
        if self.online:
            due = min(due, self._heartbeat_at, self._time_at)
            for report in self.buffer.in_flight.values():
                return min(due, report.due)
        return due

    def start(self, now: float) -> None:
        """Switch the lock on; reports, heartbeats and sleep start at a random phase of their intervals."""
        self.vehicle.moved_at = now
        self._report_at = now + self.options.interval * (0.5 + self._phase)
        if self.options.heartbeat:
            self._heartbeat_at = now + self.options.heartbeat * (0.5 + self._phase)
        if self.options.sleep:
            self._toggle_sleep_at = now + self.options.sleep[0] * (0.5 + self._phase)
        self.dialect.start(now)

    def drain(self, now: float) -> None:
        """Stop making reports, stay awake, and deliver the unanswered ones."""
        self._draining = self.awake = True
        self._report_at = self._toggle_sleep_at = self._locks_at = inf
        self.dialect.drain()

    def connected(self, now: float) -> list[bytes]:
        """Handle a new connection; return the frames to send first."""
        self.online = True
        frames = self.dialect.connected(now)
        if self.options.ask_time and self._time_at == inf:
            self._time_at = now + self.options.ask_time
            frames.append(self.dialect.ask_time(first=True))
        if self.options.dynamic_password and self.mechanism.dynamic_password is None:
            frames.append(self.dialect.report_dynamic_password(now))
        if not self._reports and not self._draining:
            self._report(now, wake=WAKE_RESTART)
        self.buffer.all_overdue()
        return frames + self._send_due(now)

    def disconnected(self, now: float) -> None:
        """Handle a lost connection: unanswered frames are resent later, new reports are stored."""
        self.online = False
        self.buffer.store_live()

    def tick(self, now: float) -> list[bytes]:
        """Advance the time; return the frames to send, none while offline. May change `awake`."""
        if now >= self._toggle_sleep_at:
            self._toggle_sleep(now)
        if now >= self._locks_at:
            self.mechanism.close(now)
        if now >= self._report_at:
            self._periodic(now)
        frames = self.dialect.tick(now, self.online)
        if not self.online:
            return []
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self.options.heartbeat
            self.counters.heartbeats += 1
            frames.append(self.dialect.heartbeat())
        if now >= self._time_at:
            self._time_at = now + self.options.ask_time
            frames.append(self.dialect.ask_time(first=False))
        return frames + self._send_due(now)

    def receive(self, data: bytes, now: float, *, datagram: bool = False) -> list[bytes]:
        """Process bytes of the gateway; return the frames to send. Never raises."""
        answers = []
        for frame in self.dialect.feed(data, datagram):
            answers += self.dialect.process(frame, now)
        return answers + self._send_due(now)

    # Called by the dialect (`Host`).

    def keep(self, entry: Entry, *, first: bool = False) -> None:
        """Buffer a report for sending, with `first` ahead of others."""
        self.counters.lost += self.buffer.add(entry, connected=self.online, first=first)

    def answered(self, key: Hashable, now: float) -> None:
        """Process the answer to `key`, and drop the report."""
        report = self.buffer.answered(key)
        if report is not None:
            self.counters.answered += 1
            self.counters.latencies.add(now - report.sent_at)

    def set_clock(self, now: float, text: str) -> bool:
        """Set the clock to `yyyyMMddHHmmss`, UTC; return False for an invalid time."""
        try:
            moment = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return False
        if not 2000 <= moment.year <= 2098:
            return False
        ahead = moment.timestamp() - now
        # The answer has whole seconds; a clock within that error stays unchanged.
        if abs(ahead - self.vehicle.clock_ahead) > _CLOCK_STEP:
            self.vehicle.clock_ahead = ahead
        return True

    def disconnect_for(self, now: float, seconds: float) -> None:
        """Disconnect, and reconnect after `seconds`."""
        if not self._draining:
            self.awake = False
            self._toggle_sleep_at = now + seconds

    def _toggle_sleep(self, now: float) -> None:
        self.awake = not self.awake
        if not self.options.sleep:
            self._toggle_sleep_at = inf
        else:
            self._toggle_sleep_at = now + self.options.sleep[0 if self.awake else 1]

    def _report(self, now: float, wake: int = WAKE_TIMER, movement: LockMovement | None = None) -> None:
        """Make a report of the current state."""
        charged = self.vehicle.advance(now)
        self._reports += 1
        if self._reports <= _ALARMS_END:
            for alarm in self.options.alarms:
                self.vehicle.alarm(alarm, _ALARMS_BEGIN <= self._reports < _ALARMS_END)
        for entry in self.dialect.record(now, WAKE_CHARGING if charged else wake, movement):
            self.keep(entry)

    def _moved(self, now: float, movement: LockMovement) -> None:
        """Report a movement or a failed attempt."""
        if movement.action == "unlocked" and self.dialect.locks_itself and not self._draining:
            self._locks_at = now + self.options.relock if self.options.relock else inf
        elif movement.action == "locked":
            self._locks_at = inf
        self._report(now, movement=movement)

    def _periodic(self, now: float) -> None:
        """Make a periodic report; regularly a card opens the lock, or it is closed."""
        self._report_at += self.options.interval
        if self._report_at <= now:
            self._report_at = now + self.options.interval
        every = self.options.card_every
        turn = (self._reports + int(self._phase * every)) % every if every else None
        if turn == every // 2 and self.vehicle.unlocked:
            self.mechanism.close(now)
        elif turn == 0 and not self.vehicle.unlocked and self._reports:
            self.mechanism.show_card(f"{int(self.device) % 10**9 + 1:010d}", now)
        else:
            # The rope of an opened lock is out by the next report.
            self.vehicle.rope_open = self.vehicle.motor_open
            self._report(now)

    def _send_due(self, now: float) -> list[bytes]:
        """Return overdue frames, then new ones as far as the window allows."""
        if not self.online:
            return []
        frames = self.buffer.overdue(now, self.options.resend_after)
        self.counters.resent += len(frames)
        while len(self.buffer.in_flight) < self.dialect.window:
            taken = self.buffer.take(self.dialect.fit)
            if taken is None:
                break
            entries, stored = taken
            keys, frame = self.dialect.pack(entries, stored)
            self.buffer.sent(Report(frame, len(entries), keys, now, now + self.options.resend_after))
            self.counters.sent += 1
            self.counters.stored += len(entries) if stored else 0
            frames.append(frame)
        return frames
