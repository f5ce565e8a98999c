"""Limits how many unknown devices per minute may connect from one address."""

from ipaddress import ip_address
from itertools import islice
from typing import Any, Final, Protocol

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.transport.tcp import address_key

#: Limit without the option; it does not apply to this host's own addresses.
DEFAULT_LIMIT: Final = 1000
#: Counted addresses, known devices and pending queries; the oldest are forgotten first.
_MAX_ADDRESSES: Final = 10_000
_MAX_KNOWN: Final = 100_000
_MAX_ASKED: Final = 10_000
#: Devices per query.
_BATCH: Final = 500
#: Seconds between log lines.
_PAUSE: Final = 600.0


class KnownDevices(Protocol):
    """Tells which devices have connected before."""

    async def known(self, devices: list[str]) -> list[bool]:
        """For each device, whether it is known; raises txredisapi's errors."""


@define(eq=False)
class NewDeviceLimiter:
    """Admits a number of new devices per minute and address; further ones have to wait.

    Redis is queried only when an address has exhausted its limit. Known devices are not counted, so that a
    whole fleet can reconnect at once after a restart.
    """

    log = Logger()

    #: Devices per minute; 0 for no limit, None for `DEFAULT_LIMIT` from other hosts.
    limit: int | None
    #: None until Redis can be queried.
    store: KnownDevices | None = None
    #: Number of times a device had to wait.
    delayed: int = 0
    _left: dict[str, tuple[float, float]] = field(factory=dict, init=False, repr=False)
    _known: dict[str, None] = field(factory=dict, init=False, repr=False)
    _asked: dict[str, None] = field(factory=dict, init=False, repr=False)
    _querying: bool = field(default=False, init=False)
    _quiet_until: float = field(default=-_PAUSE, init=False)

    def admits(self, peer: str, device: str, now: float) -> bool:
        """Whether a device may connect from `peer` (`host:port`) now; if not, it has to try again later."""
        limit = DEFAULT_LIMIT if self.limit is None else self.limit
        if not limit or device in self._known:
            return True
        host = peer.rpartition(":")[0].strip("[]")
        if self.limit is None and _is_local(host):
            return True
        address = address_key(host)
        left, counted_at = self._left.pop(address, (float(limit), now))
        left = min(left + (now - counted_at) * limit / 60, float(limit))
        may_come = left >= 1
        _keep(self._left, address, (left - may_come, now), _MAX_ADDRESSES)
        if may_come:
            _keep(self._known, device, None, _MAX_KNOWN)
            return True
        self.delayed += 1
        self._warn(address, limit, now)
        self._query(device)
        return False

    def _warn(self, address: str, limit: int, now: float) -> None:
        if now < self._quiet_until:
            return
        self._quiet_until = now + _PAUSE
        self.log.warn(
            "more than {limit} new devices a minute come from {address} (--max-new-devices); the others wait",
            limit=limit,
            address=address,
        )

    def _query(self, device: str) -> None:
        if self.store is None:
            return
        _keep(self._asked, device, None, _MAX_ASKED)
        if not self._querying:
            self._querying = True
            defer.Deferred.fromCoroutine(self._query_known(self.store)).addErrback(self._failed)

    async def _query_known(self, store: KnownDevices) -> None:
        try:
            while self._asked:
                batch = list(islice(self._asked, _BATCH))
                for device, known in zip(batch, await store.known(batch), strict=True):
                    self._asked.pop(device, None)
                    if known:
                        _keep(self._known, device, None, _MAX_KNOWN)
        finally:
            self._querying = False

    def _failed(self, failure: Any) -> None:
        # Devices that wait cause new queries.
        self._asked.clear()
        if not failure.check(txredisapi.RedisError):
            self.log.failure("looking up known devices failed", failure)


def _keep(kept: dict[str, Any], name: str, value: Any, most: int) -> None:
    if name not in kept and len(kept) >= most:
        del kept[next(iter(kept))]
    kept[name] = value


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
