"""Options of virtual locks."""

from typing import Any, Final

from attrs import Attribute, define, field, validators

from jt709c_gateway.protocol.alarms import JT701_ALARMS, JT705_ALARMS, JT709_ALARMS
from jt709c_gateway.protocol.device_id import MASTER_DIGITS, TERMINAL_DIGITS
from jt709c_gateway.protocol.dialects import DIALECTS, JT701, JT705, JT709
from jt709c_gateway.protocol.jt705 import PRODUCT_LOCK
from jt709c_gateway.protocol.lock_event_item import PASSWORD_LENGTH
from jt709c_gateway.simulator.report_buffer import CAPACITY
from jt709c_gateway.simulator.route import Route

#: The first id of each dialect, and the maximum digits of an id.
FIRST_IDS: Final = {JT709: "794308010001", JT705: "856009010001", JT701: "8000010001"}
ID_DIGITS: Final = {JT709: TERMINAL_DIGITS, JT705: TERMINAL_DIGITS, JT701: MASTER_DIGITS}
#: The alarms that locks of each dialect can raise.
ALARMS: Final = {
    JT709: frozenset(JT709_ALARMS.values()),
    JT705: frozenset(JT705_ALARMS[PRODUCT_LOCK].values()),
    JT701: frozenset(JT701_ALARMS.values()),
}
#: Sub-locks of one master: 50 JT126 and 16 JT709.
MOST_SUBLOCKS: Final = 66
FACTORY_PASSWORD: Final = "888888"
#: The maximum interval in seconds: the range of JT/T 808 parameters.
_LONGEST: Final = 2**32 - 1


def _password(_: Any, attribute: "Attribute[str]", value: str) -> None:
    plain = value.isascii() and value.isprintable() and not set("(),") & set(value)
    if len(value) != PASSWORD_LENGTH or not plain:
        raise ValueError("a password has six printable ASCII characters, and no bracket or comma")


def _seconds(_: Any, attribute: "Attribute[float]", value: float) -> None:
    if not 0 <= value <= _LONGEST:
        raise ValueError(f"{attribute.name} is from 0 to {_LONGEST} seconds")


def _sleep(_: Any, attribute: "Attribute[Any]", value: tuple[float, float] | None) -> None:
    if value is not None and not 0 < min(value) <= max(value) <= _LONGEST:
        raise ValueError("both times of sleep must be above 0 seconds")


@define(frozen=True, eq=False)
class LockOptions:
    """Options of all locks of a fleet; raises ValueError. Times are in seconds.

    - `dialect`: one of `DIALECTS`.
    - `interval`, `heartbeat`: between reports, between heartbeats (0: none).
    - `resend_after`: until an unanswered frame is sent again.
    - `window`: the maximum number of unanswered reports.
    - `refuse`: refuse every command; `mute`: answer none; `no_evidence`: accept commands, but never move.
    - `sleep`: (awake, asleep): disconnect regularly; positions are recorded meanwhile.
    - `speed_factor`: travel and discharge so many times faster.
    - `card_every`: reports between openings by card; the lock is closed half as many later (0: never).
    - `relock`: until an opened jt701 or sub-lock locks by itself (0: never).
    - `sublocks`: sub-locks and sensors behind a jt701 master.
    - `register`: jt709 sends 0x0100 first, and on later connections 0x0102 with the received code.
    - `ask_time`: between time requests (0: none).
    - `dynamic_password`: report one, and a new one after each use.
    - `alarms`: raised with the second report and cleared with the seventh.
    - `memory`: the number of reports that fit into flash.
    """

    dialect: str = field(default=JT709, validator=validators.in_(DIALECTS))
    interval: float = field(default=30.0, validator=[_seconds, validators.gt(0)])
    heartbeat: float = field(default=60.0, validator=_seconds)
    resend_after: float = field(default=20.0, validator=[_seconds, validators.gt(0)])
    window: int = field(default=8, validator=validators.ge(1))
    refuse: bool = False
    mute: bool = False
    no_evidence: bool = False
    sleep: tuple[float, float] | None = field(default=None, validator=_sleep)
    speed_factor: float = field(default=1.0, validator=validators.ge(0))
    card_every: int = field(default=0, validator=validators.ge(0))
    relock: float = field(default=60.0, validator=_seconds)
    sublocks: int = field(default=0, validator=[validators.ge(0), validators.le(MOST_SUBLOCKS)])
    register: bool = True
    ask_time: float = field(default=3600.0, validator=_seconds)
    dynamic_password: bool = True
    password: str = field(default=FACTORY_PASSWORD, repr=False, validator=_password)
    alarms: frozenset[str] = frozenset()
    memory: int = field(default=CAPACITY, validator=validators.ge(1))
    seed: int = 0
    route: Route = field(factory=Route.built_in, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.sublocks and self.dialect != JT701:
            raise ValueError(f"only {JT701} masters have sub-locks, not a {self.dialect}")
        if unknown := self.alarms - ALARMS[self.dialect]:
            raise ValueError(f"a {self.dialect} reports no alarm {min(unknown)}")
