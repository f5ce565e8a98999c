"""The limits that a gateway keeps, and one instant on all of its clocks."""

from datetime import datetime

from attrs import define, field

from jt709c_gateway.protocol.zones import Utc8Devices


@define
class Policy:
    """Limits on devices and connections, in seconds and counts."""

    idle_timeout: float = 900.0
    first_frame_timeout: float = 60.0
    max_malformed: int = 20
    max_sessions: int = 100_000
    #: Devices per connection, and sessions per address, that are not evicted when the table is full.
    devices_per_connection: int = 8
    sessions_per_address: int = 20_000
    #: Events per second of one device; 0 for no limit.
    max_rate: float = 0.0
    #: Events per hour of one device, in one burst if need be; 0 for no limit.
    max_share: float = 0.0
    #: Unknown devices per minute and address; 0 for no limit. See `NewDeviceLimiter`.
    max_new_devices: int | None = 0
    #: Whether a sub-lock's report is answered with its sentence's serial instead of the sub-lock's own.
    sentence_serial: bool = False
    #: Devices that send times in UTC+8.
    utc8: Utc8Devices = field(factory=Utc8Devices)
    #: Seconds between renewals of an active session's time to live in Redis.
    session_refresh: float = 60.0
    #: Seconds in which all that comes has one time of arrival, since reading and formatting clocks takes a
    #: tenth of a frame's time; 0 for a time of its own for each chunk of input.
    moment_length: float = 0.0

    @property
    def session_ttl(self) -> int:
        """Seconds after which Redis deletes the session of a dead gateway."""
        return int(self.idle_timeout + 2 * self.session_refresh)


@define
class Moment:
    """One instant: monotonic seconds, UTC, ISO 8601, epoch seconds."""

    now: float
    utc: datetime
    iso: str
    epoch: float
