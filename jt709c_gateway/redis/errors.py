"""Error replies of Redis: explains and classifies them, and logs them at a limited rate."""

import re
from collections.abc import Sequence
from typing import Final

import txredisapi
from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.util.clock import Clock

#: Seconds between two log lines about the same refusal.
REPORT_EVERY: Final = 10.0
#: Commands whose keys are not just their first argument.
_KEYS: Final = {"BLMOVE": 2, "LMOVE": 2}
_ACL: Final = re.compile(r"(?:NOPERM |ACL failure in script: )No permissions to access a (?:key|channel)")
#: UNBLOCKED is the reply to a blocking command when its server becomes a replica.
_STATE_OF_SERVER: Final = re.compile(
    r"(?:NOPERM|NOAUTH|READONLY|OOM|MISCONF|NOREPLICAS|UNBLOCKED|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|"
    r"DIVIDED)\b"
    r"|.*ACL failure in script"
)
#: The refusal of `partition_guard.lua`, with the marker.
_DIVIDED: Final = re.compile(r"\bDIVIDED (.*?)(?: script: .*)?$")


def explain(text: str, command: Sequence[object] = ()) -> str:
    """Return an error reply with the keys or channels of the refused `command`, which the server doesn't
    name.

    Only names of keys and channels are repeated of its arguments. For a command inside a script, only the
    server's ACL LOG names the key.
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
    """Return whether the server's state (rights, memory, a replica) caused an error, not the request."""
    return isinstance(error, txredisapi.ResponseError) and bool(_STATE_OF_SERVER.match(str(error)))


def other_marker(error: BaseException) -> bytes | None:
    """Return the marker with which a script refuses a gateway whose partitions are others; else None."""
    found = _DIVIDED.search(str(error)) if isinstance(error, txredisapi.ResponseError) else None
    return None if found is None else found[1].encode()


def is_wrong_type(reply: object) -> bool:
    """Return whether a reply says that a key has the wrong type."""
    return isinstance(reply, txredisapi.ResponseError) and str(reply).startswith("WRONGTYPE")


@define
class ErrorLog:
    """Logs refusals of Redis, each kind at most every `REPORT_EVERY` seconds."""

    log = Logger()

    clock: Clock
    _next: dict[str, float] = field(factory=dict, init=False)

    def report(self, what: str, error: BaseException) -> None:
        """Log that Redis refused `what`, one of a few texts; the connection itself logs that it was lost."""
        now = self.clock.seconds()
        if isinstance(error, txredisapi.ConnectionError) or now < self._next.get(what, now):
            return
        self._next[what] = now + REPORT_EVERY
        self.log.error("Redis refuses {what}: {reason}; trying again", what=what, reason=str(error))
