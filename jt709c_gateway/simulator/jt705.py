"""The `jt705` dialect: other reports than `jt709`, the same commands (docs/protocol.rst §1.2, §2.1)."""

from collections.abc import Hashable, Sequence
from typing import ClassVar, Final

from attrs import define, field

from jt709c_gateway.protocol import answers, jt705, jt808
from jt709c_gateway.protocol.alarms import JT705_ALARMS, LOW_BATTERY, alarm_bits
from jt709c_gateway.protocol.framing import BinaryFrame, Framer
from jt709c_gateway.simulator.jt709 import NETWORK, Jt709, lock_event
from jt709c_gateway.simulator.lock_mechanism import LockMovement
from jt709c_gateway.simulator.report_buffer import Entry

_ALARMS: Final = JT705_ALARMS[jt705.PRODUCT_LOCK]


@define(eq=False)
class Jt705(Jt709):
    """0x5501 and 0x5502 instead of locations; heartbeats, sentences and commands as in `jt709`."""

    model: ClassVar[str] = "JT705A"

    _report_serial: int = field(init=False, default=0)

    @property
    def window(self) -> int:
        """The maximum number of unanswered frames: 1, since 0x4401 has no serial of the report."""
        return 1

    def connected(self, now: float) -> list[bytes]:
        """Return no frames: this dialect doesn't register."""
        self._framer = Framer()
        return []

    def ask_time(self, first: bool) -> bytes:
        """Encode a time request, always as a sentence."""
        return self._ask_by_sentence()

    def record(self, now: float, wake: int, movement: LockMovement | None) -> list[Entry]:
        """Make a location, with the lock event of a movement."""
        return [Entry(jt808.JT705_LOCATION, self._report(now, wake, movement))]

    def fit(self, entries: Sequence[Entry]) -> int:
        """Return 1: each report has its own frame."""
        return 1

    def pack(self, entries: Sequence[Entry], stored: bool) -> tuple[set[Hashable], bytes]:
        """Encode 0x5501, or 0x5502 if stored, with the flag that requests an answer."""
        (entry,) = entries
        if entry.kind != jt808.JT705_LOCATION:
            return super().pack(entries, False)
        message_id = jt808.JT705_STORED if stored else jt808.JT705_LOCATION
        self._report_serial = self._report_serial + 1 & 0xFF
        frame = jt808.encode_jt705(
            message_id, self._wire, self._report_serial, entry.body, answer_wanted=True
        )
        return {message_id}, frame

    def _report(self, now: float, wake: int, movement: LockMovement | None) -> bytes:
        """Encode a body (docs/protocol.rst §1.2), whose status has no bit of the rope."""
        unit = self.lock.vehicle
        place = unit.place
        status = jt705.STATUS_MOTOR if unit.unlocked else 0
        status |= jt705.STATUS_BATTERY_LOW if LOW_BATTERY in unit.alarms else 0
        cell = unit.cell
        items = {
            jt705.ALTITUDE: unit.altitude_m.to_bytes(2, "big"),
            jt705.WAKE_SOURCE: bytes([wake]),
            jt705.NETWORK_CODES: (cell.mcc or 0).to_bytes(2, "big") + (cell.mnc or 0).to_bytes(2, "big"),
            jt705.NETWORK: bytes([NETWORK]),
        }
        return jt705.encode(
            time=unit.time(now),
            latitude=place.latitude,
            longitude=place.longitude,
            fix=True,
            speed_kmh=unit.speed_kmh,
            course_deg=place.course,
            gsm_signal=unit.signal,
            satellites=unit.satellites,
            odometer_km=unit.odometer_km,
            battery=round(unit.battery),
            cell_id=cell.cell_id,
            lac=cell.lac,
            status=status,
            alarm_bits=alarm_bits(unit.alarms, _ALARMS),
            items=items | lock_event(movement),
        )

    def _binary(self, frame: BinaryFrame, now: float) -> list[bytes]:
        """Process a frame; 0x4401 has its own header, the rest is as in `jt709`."""
        answer = answers.parse_jt705_answer(frame.payload)
        if answer is None or answer[0] != self._wire:
            return super()._binary(frame, now)
        if not answer[2]:
            self.lock.answered(answer[1], now)
        return []
