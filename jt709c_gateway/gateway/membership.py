"""This run's membership among all gateways: run number, lease, and whether a later run superseded it.

See docs/fencing.rst.
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

#: Identifies this process, whose pid may have been used before.
_PROCESS: Final = uuid4().hex
#: Share of the ttl that a lease lasts, from when its renewal was sent: clocks run at different rates.
_LEASE_SHARE: Final = 0.9


def _place() -> str:
    """Identifies the pid namespace of this process; a host's name may be shared by containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{uuid4()}"


def is_dead_here(heartbeat: bytes) -> bool:
    """Whether a heartbeat is of a process in this pid namespace that has ended."""
    try:
        other = json.loads(heartbeat)
        if other["place"] != _place() or other["process"] == _PROCESS:
            return False
        pid = int(other["pid"])
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    # Our own pid, reused after a restart: the earlier process has ended.
    return pid == os.getpid()


@define(eq=False)
class GatewayMembership:
    """Registers this run in Redis and renews its lease.

    While the lease holds, no other gateway adopts this run's commands. `clock` must be monotonic; `ttl` is in
    seconds. `superseded` is called once, when a later run owns the name: this one must then stop all work.
    """

    log = Logger()

    clock: Clock
    store: CommandStore
    boot: str
    ttl: float
    superseded: Callable[[], None] = lambda: None
    #: Whether a later run owns our name.
    is_superseded: bool = field(default=False, init=False)
    #: Since when the heartbeat has been uninterrupted, in monotonic seconds.
    steady_since: float = field(default=0.0, init=False)
    _heartbeat: bytes = field(default=b"", init=False)
    _leased_until: float = field(default=float("-inf"), init=False)
    _stopped: bool = field(default=False, init=False)

    def is_leased(self) -> bool:
        """Whether no other gateway may adopt this run's commands now."""
        return self.clock.seconds() < self._leased_until

    @property
    def is_registered(self) -> bool:
        """Whether this run has its number."""
        return bool(self._heartbeat)

    @property
    def is_steady(self) -> bool:
        """Whether our heartbeat has been uninterrupted for a ttl, so that others have had time for theirs."""
        return self.clock.seconds() - self.steady_since >= self.ttl

    async def renew(self) -> bool:
        """Renew the lease, after registering this run if necessary; returns whether the lease had lapsed.

        Raises NotOurs when a later run owns the name or this one is deregistered, and txredisapi's errors.
        """
        if self.is_superseded or self._stopped:
            raise NotOurs(False)
        if not self._heartbeat:
            await self._register()
        asked = self.clock.seconds()
        lapsed = not self.is_leased()
        if not await self.store.renew(self._heartbeat, self.ttl):
            self._mark_superseded()
            raise NotOurs(False)
        self._leased_until = asked + self.ttl * _LEASE_SHARE
        if lapsed:
            # After an interruption, which may have concerned all gateways, the others get time for a
            # heartbeat.
            self.steady_since = self.clock.seconds()
        return lapsed

    async def deregister(self) -> None:
        """Remove this run from Redis, so that others adopt its commands at once."""
        self.stop()
        if self._heartbeat and not self.is_superseded:
            await self.store.deregister(self._heartbeat)

    def stop(self) -> None:
        """Send no more heartbeats."""
        self._stopped = True

    async def _register(self) -> None:
        run = f"{await self.store.next_run()}-{self.boot}"
        self.store.holder = f"{self.store.gateway}/{run}"
        heartbeat = {
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "place": _place(),
            "process": _PROCESS,
        }
        # The Lua scripts find the run by this JSON form.
        self._heartbeat = json.dumps(heartbeat, separators=(",", ":")).encode()

    def _mark_superseded(self) -> None:
        self.is_superseded, self._leased_until = True, float("-inf")
        self.log.critical(
            "a later run of gateway {name} has taken its name; this one stops", name=self.store.gateway
        )
        self.superseded()
