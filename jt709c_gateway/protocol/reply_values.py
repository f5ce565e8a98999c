"""Values in masters' answers to commands and in unrequested sentences (docs/protocol.rst §3, §4).

::

    (id,P01,firmware,41%)            firmware and battery
    (id,P14,imei)                    IMEI
    (id,P22,0 or 1)                  whether it has set its clock to the time sent
    (id,P42,n,card,…)                cards that were registered at the lock and may open it from now on
    (id,P52,0,last,current)          the dynamic passwords, secrets both; empty if there are none
    (id,P52,1,0,…)                   dynamic passwords are off
    (id,P98,10,0,count,0)            reports queued in the lock
    (id,1,serial,WLNET,1[,0],n,id…)  bound sub-locks and sensors
"""

import re
from collections.abc import Callable
from typing import Final

from jt709c_gateway.protocol import pnn
from jt709c_gateway.protocol.events import Reply
from jt709c_gateway.protocol.message import VersionedMessage

_PERCENT = re.compile(r"([0-9]{1,3})\s*%?")
_CARD = re.compile(r"[0-9]{10}")
_PERIPHERAL = re.compile(r"[0-9A-Fa-f]{10}")
_COUNT = re.compile(r"[0-9]{1,10}")
_MOST_PERCENT: Final = 100
_TIME_TAKEN: Final = {"1": True, "0": False}
_WAITING: Final = ("10", "0")
_SWITCHED_OFF: Final = ("1", "0")

_Arguments = tuple[str, ...]
_Reader = Callable[[VersionedMessage, Reply, _Arguments], None]


def read(message: VersionedMessage, reply: Reply, word: str, arguments: _Arguments) -> None:
    """Store an answer's values in the message and in its event; do nothing for other words."""
    if reader := _READERS.get(word):
        reader(message, reply, tuple(argument.strip() for argument in arguments))


def _firmware(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    message.firmware = (arguments[0] or None) if arguments else None
    found = _PERCENT.fullmatch(arguments[1]) if len(arguments) > 1 else None
    if found and int(found[1]) <= _MOST_PERCENT:
        reply.battery_percent = int(found[1])


def _imei(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    message.imei = pnn.imei(arguments[0]) if arguments else None


def _time(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    if arguments and arguments[0] in _TIME_TAKEN:
        reply.time_taken = _TIME_TAKEN[arguments[0]]


def _cards(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    reply.cards = tuple(filter(_CARD.fullmatch, arguments[1:]))


def _dynamic_password(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    if len(arguments) > 2 and arguments[0] == "0":
        message.secret = arguments[2]
    elif arguments[:2] == _SWITCHED_OFF:
        message.secret = ""


def _records(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    if arguments[:2] == _WAITING and len(arguments) > 2 and _COUNT.fullmatch(arguments[2]):
        reply.records_waiting = int(arguments[2])


def _sublocks(message: VersionedMessage, reply: Reply, arguments: _Arguments) -> None:
    """Recognise ids by their form: the answer comes with and without the function in front."""
    if arguments[:1] == ("1",):
        reply.peripherals = tuple(one.upper() for one in arguments[1:] if _PERIPHERAL.fullmatch(one))


_READERS: Final[dict[str, _Reader]] = {
    "P01": _firmware,
    "P14": _imei,
    "P22": _time,
    "P42": _cards,
    "P52": _dynamic_password,
    "P98": _records,
    "WLNET": _sublocks,
}
