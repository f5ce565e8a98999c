"""What a server refuses to do for us: which right is missing, whose fault it is, and who hears of it."""

import re
from collections.abc import Sequence
from typing import Final

import txredisapi
from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.util.clock import Clock

#: Seconds between two log lines about the same thing that is refused.
REPORT_EVERY: Final = 10.0
#: Commands whose keys are more than their first argument.
_KEYS: Final = {"BLMOVE": 2, "LMOVE": 2}
_ACL: Final = re.compile(r"(?:NOPERM |ACL failure in script: )No permissions to access a (?:key|channel)")
#: UNBLOCKED is what a command that waits gets when its server becomes a replica.
_STATE_OF_SERVER: Final = re.compile(
    r"(?:NOPERM|NOAUTH|READONLY|OOM|MISCONF|NOREPLICAS|UNBLOCKED|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b"
    r"|.*ACL failure in script"
)


def explain(text: str, command: Sequence[object] = ()) -> str:
    """An error reply, with the keys or channels that a user may not touch: the server doesn't name them.

    `command` is what was refused; of its arguments only names of keys and channels are repeated. Inside a
    script it can be any key, and only the server knows.
    """
    if not _ACL.search(text):
        return text
    if not command or not text.startswith("NOPERM"):
        return f"{text} (ACL LOG on the server names it)"
    name = str(command[0])
    if name == "EVALSHA":
        keys = command[3 : 3 + int(str(command[2]))]
    else:
        keys = command[1 : 1 + _KEYS.get(name, 1)]
    return f"{text}: {name} {' '.join(str(key) for key in keys)}"


def is_state_of_server(error: BaseException) -> bool:
    """Whether the server's state is why (rights, memory, a replica), and not what was asked of it."""
    return isinstance(error, txredisapi.ResponseError) and bool(_STATE_OF_SERVER.match(str(error)))


def is_wrong_type(reply: object) -> bool:
    """Whether a reply says that a key is of another type than it should be."""
    return isinstance(reply, txredisapi.ResponseError) and str(reply).startswith("WRONGTYPE")


@define
class ErrorLog:
    """Logs what Redis refuses, each thing at most every `REPORT_EVERY` seconds, while others keep trying."""

    log = Logger()

    clock: Clock
    _next: dict[str, float] = field(factory=dict, init=False)

    def report(self, what: str, error: BaseException) -> None:
        """`what`, one of a few texts, was refused; a lost connection is said by the connection itself."""
        now = self.clock.seconds()
        if isinstance(error, txredisapi.ConnectionError) or now < self._next.get(what, now):
            return
        self._next[what] = now + REPORT_EVERY
        self.log.error("Redis refuses {what}: {reason}; trying again", what=what, reason=str(error))
