"""One run of a gateway among all others: its number, its lease, and whether a later run has taken its name.

docs/fencing.rst says what they are for.
"""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.command_store_types import NotOurs
from jt709c_gateway.util.clock import Clock

#: This run of a process, whose id another may have had before.
_PROCESS: Final = uuid4().hex
#: What of the ttl a lease lasts, counted from when its renewal was sent: clocks run unequally.
_CERTAIN: Final = 0.9


def _place() -> str:
    """Where our process id means us and nobody else; containers may share a host's name, but not this."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{uuid4()}"


def is_dead_here(said: bytes) -> bool:
    """Whether what says so of itself was a process in this very place, and is no more."""
    try:
        other = json.loads(said)
        if other["place"] != _place() or other["process"] == _PROCESS:
            return False
        pid = int(other["pid"])
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    # Our own pid, used again after a restart: it is not that one that lives.
    return pid == os.getpid()


@define(eq=False)
class GatewayMembership:
    """Says in Redis that this run lives, and knows until when nobody else can take it for dead.

    `clock` must be monotonic; `ttl` is in seconds. `superseded` is called once, when a later run has the
    name: then this one may do nothing more, and has to end.
    """

    log = Logger()

    clock: Clock
    store: CommandStore
    boot: str
    ttl: float
    superseded: Callable[[], None] = lambda: None
    #: Whether a later run has our name.
    is_superseded: bool = field(default=False, init=False)
    #: Since when Redis has heard us without a gap.
    steady_since: float = field(default=0.0, init=False)
    _said: bytes = field(default=b"", init=False)
    _leased_until: float = field(default=float("-inf"), init=False)
    _left: bool = field(default=False, init=False)

    def is_leased(self) -> bool:
        """Whether nobody can take this run for dead at this moment."""
        return self.clock.seconds() < self._leased_until

    @property
    def has_begun(self) -> bool:
        """Whether this run has its number."""
        return bool(self._said)

    @property
    def is_steady(self) -> bool:
        """Whether Redis has heard us long enough for others to have had the time to speak up, too."""
        return self.clock.seconds() - self.steady_since >= self.ttl

    async def renew(self) -> bool:
        """Renew the lease, after taking the name if this run hasn't yet; whether the lease had lapsed before.

        NotOurs when a later run has the name, or this one has left; txredisapi's errors as they come.
        """
        if self.is_superseded or self._left:
            raise NotOurs(False)
        if not self._said:
            await self._enter()
        asked = self.clock.seconds()
        lapsed = not self.is_leased()
        if not await self.store.renew(self._said, self.ttl):
            self._give_way()
            raise NotOurs(False)
        self._leased_until = asked + self.ttl * _CERTAIN
        if lapsed:
            # We were not heard for a while, and perhaps nobody was: the others get time to speak up too.
            self.steady_since = self.clock.seconds()
        return lapsed

    async def leave(self) -> None:
        """Say that this run is gone, so that others adopt at once what it may leave."""
        self.stop()
        if self._said and not self.is_superseded:
            await self.store.deregister(self._said)

    def stop(self) -> None:
        """Say nothing more."""
        self._left = True

    async def _enter(self) -> None:
        run = f"{await self.store.next_run()}-{self.boot}"
        self.store.holder = f"{self.store.gateway}/{run}"
        said = {
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "place": _place(),
            "process": _PROCESS,
        }
        # The scripts look for the run by how it is written here.
        self._said = json.dumps(said, separators=(",", ":")).encode()

    def _give_way(self) -> None:
        self.is_superseded, self._leased_until = True, float("-inf")
        self.log.critical(
            "a later run of gateway {name} has taken its name; this one stops", name=self.store.gateway
        )
        self.superseded()
