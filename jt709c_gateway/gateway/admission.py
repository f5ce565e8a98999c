"""Admission of devices: all, those in a file, or those in the Redis set `jt709c:allowed`."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.allowlist_file import (
    Allowlist,
    AllowlistError,
    Signature,
    read_allowlist,
    signature_of,
)
from jt709c_gateway.redis.allowlist import RedisAllowlist
from jt709c_gateway.redis.partitions import Partitions

#: Ids per query to Redis.
_BATCH: Final = 500
#: Seconds between checks of the file, and between queries for all connected devices.
_FILE_REVIEW: Final = 2.0
_SET_REVIEW: Final = 10.0


class Admission:
    """Admits every device."""

    #: Seconds from one `review` to the next; None when there is nothing to review.
    review_every: float | None = None
    #: Pending queries to Redis.
    asking: int = 0

    def admits(self, device: str) -> bool | None:
        """Whether a device is admitted; None when that needs a query."""
        return True

    def ask(self, device: str) -> "defer.Deferred[bool]":
        """Query whether a device is admitted; may take as long as Redis is away, and may be cancelled."""
        return defer.succeed(True)

    def on_redis_ready(self) -> None:
        """Send pending queries: Redis has become usable."""

    def reread(self) -> None:
        """Have the next review read everything again."""

    async def review(self, devices: Iterable[str]) -> list[str]:
        """The connected devices that are no longer admitted; raises txredisapi's errors."""
        return []


class FileAdmission(Admission):
    """Admits the devices in a file, which is read again when it has changed.

    An invalid version changes nothing. A version that is being written is read only after it has stayed the
    same from one review to the next.
    """

    log = Logger()
    review_every = _FILE_REVIEW

    def __init__(self, listed: Allowlist) -> None:
        self._path = listed.path
        self._devices = listed.devices
        #: The version applied or refused last, and the version seen last.
        self._applied: Signature | None = listed.signature
        self._seen: Signature | None = listed.signature

    def admits(self, device: str) -> bool:
        """Whether a device is in the file."""
        return device in self._devices

    def reread(self) -> None:
        """Have the next review read the current version, even if it was refused before."""
        self._applied, self._seen = None, signature_of(self._path)

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Read a new version; returns the devices that are no longer in it."""
        before, self._seen = self._seen, signature_of(self._path)
        if self._seen == self._applied or self._seen != before:
            return []
        self._applied = self._seen
        try:
            listed = read_allowlist(self._path)
        except AllowlistError as error:
            self.log.error(
                "--devices {path}: {reason}. The {count} locks read before stay admitted",
                path=str(self._path),
                reason=str(error),
                count=len(self._devices),
            )
            return []
        self._applied = self._seen = listed.signature
        self._devices = listed.devices
        self.log.info(
            "--devices {path}: read again, {count} locks are admitted",
            path=str(self._path),
            count=len(self._devices),
        )
        return [device for device in devices if device not in self._devices]


@define(eq=False)
class SetAdmission(Admission):
    """Admits the devices in the Redis set `jt709c:allowed`.

    Redis is queried when a device connects, by one call at a time for all devices that wait, and by each
    review for all connected devices. No copy of the set is kept, so its size doesn't matter, and frames of
    connected devices need no query.
    """

    log = Logger()
    review_every = _SET_REVIEW

    allowed: RedisAllowlist
    #: Pending queries, the oldest first.
    _waiting: "dict[defer.Deferred[bool], str]" = field(factory=dict, repr=False)
    _calling: bool = False
    #: Whether Redis's refusal was logged.
    _refusal_logged: bool = False

    @property
    def asking(self) -> int:  # type: ignore[override]
        """Number of pending queries."""
        return len(self._waiting)

    def admits(self, device: str) -> None:
        """None: only Redis knows."""
        return

    def ask(self, device: str) -> "defer.Deferred[bool]":
        """Query Redis, together with other pending queries."""
        asked: defer.Deferred[bool] = defer.Deferred(self._waiting.__delitem__)
        self._waiting[asked] = device
        self.on_redis_ready()
        return asked

    def on_redis_ready(self) -> None:
        """Send pending queries, unless a call is in progress."""
        if self._waiting and not self._calling:
            self._calling = True
            calling = defer.Deferred.fromCoroutine(self._answer_queries())
            calling.addErrback(
                lambda failure: self.log.failure("looking up admission in Redis failed", failure)
            )

    async def _answer_queries(self) -> None:
        try:
            while self._waiting:
                batch = list(islice(self._waiting.items(), _BATCH))
                members = await self._members([device for _, device in batch])
                for (asked, _), member in zip(batch, members, strict=True):
                    # A cancelled query has been removed.
                    if self._waiting.pop(asked, None) is not None:
                        asked.callback(member)
        except txredisapi.RedisError:
            # Queries stay pending until Redis is back, or until the next review.
            return
        finally:
            self._calling = False

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Query all connected devices; returns those that are no longer in the set."""
        self.on_redis_ready()
        here = list(devices)
        gone: list[str] = []
        for start in range(0, len(here), _BATCH):
            batch = here[start : start + _BATCH]
            try:
                members = await self._members(batch)
            except txredisapi.ResponseError:
                return gone
            gone += [device for device, member in zip(batch, members, strict=True) if not member]
        return gone

    async def _members(self, devices: list[str]) -> list[bool]:
        try:
            members = await self.allowed.contains(devices)
        except txredisapi.ResponseError as error:
            if not self._refusal_logged:
                self._refusal_logged = True
                self.log.error(
                    "Redis doesn't tell which locks are admitted, so none is that comes now: {key}: {reason}",
                    key=self.allowed.keys.allowed,
                    reason=str(error),
                )
            raise
        self._refusal_logged = False
        return members


@define(eq=False)
class PartitionedAdmission(Admission):
    """Admits the devices in the sets of several partitions, one `SetAdmission` for each."""

    review_every = _SET_REVIEW

    partitions: Partitions
    sets: Sequence[SetAdmission]

    @property
    def asking(self) -> int:  # type: ignore[override]
        """Number of pending queries."""
        return sum(one.asking for one in self.sets)

    def admits(self, device: str) -> None:
        """None: only Redis knows."""
        return

    def ask(self, device: str) -> "defer.Deferred[bool]":
        """Query the partition of the device."""
        return self.sets[self.partitions.number(device)].ask(device)

    def on_redis_ready(self) -> None:
        """Send pending queries of all partitions."""
        for one in self.sets:
            one.on_redis_ready()

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Query all connected devices; those of a partition that can't be reached are kept."""
        here: list[list[str]] = [[] for _ in self.sets]
        for device in devices:
            here[self.partitions.number(device)].append(device)
        gone: list[str] = []
        for one, some in zip(self.sets, here, strict=True):
            with suppress(txredisapi.ConnectionError):
                gone += await one.review(some)
        return gone
