"""Which locks are heard: all, those in a file, or those in the Redis set `jt709c:allowed` (DESIGN.md §6)."""

from collections.abc import Iterable
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

#: Ids that Redis is asked about in one call.
_BATCH: Final = 500
#: Seconds between two looks at the file, and between two questions after every lock that is here.
_FILE_REVIEW: Final = 2.0
_SET_REVIEW: Final = 10.0


class Admission:
    """Admits every lock."""

    #: Seconds from one `review` to the next; None when there is nothing to review.
    review_every: float | None = None
    #: Questions that wait for Redis.
    asking: int = 0

    def admits(self, device: str) -> bool | None:
        """Whether a lock is admitted; None when that has to be asked for."""
        return True

    def ask(self, device: str) -> "defer.Deferred[bool]":
        """Find it out. May take as long as Redis is away, and may be cancelled."""
        return defer.succeed(True)

    def on_redis_ready(self) -> None:
        """Redis can be used (again)."""

    def reread(self) -> None:
        """Somebody asks for the next review to read all there is to read."""

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Those of the locks that are here which are admitted no more. txredisapi's errors as they come."""
        return []


class FileAdmission(Admission):
    """Admits the locks in a file, which is read again when it has changed.

    A version that can't be used changes nothing. One that is being written is left alone until it has stayed
    the same from one review to the next.
    """

    log = Logger()
    review_every = _FILE_REVIEW

    def __init__(self, listed: Allowlist) -> None:
        self._path = listed.path
        self._devices = listed.devices
        #: The version dealt with last, and the one seen last.
        self._applied: Signature | None = listed.signature
        self._seen: Signature | None = listed.signature

    def admits(self, device: str) -> bool:
        """Whether it is in the file."""
        return device in self._devices

    def reread(self) -> None:
        """Have the next review read what is there now, even if it has been refused before."""
        self._applied, self._seen = None, signature_of(self._path)

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Read a new version; the locks that are in it no more."""
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
    """Admits the locks in the Redis set `jt709c:allowed`.

    Redis is asked when a lock comes, by one call at a time for all that come meanwhile, and again for every
    lock that is here at each review. No copy of the set is kept, so its size doesn't matter, and a frame of a
    lock that is here costs nothing.
    """

    log = Logger()
    review_every = _SET_REVIEW

    allowed: RedisAllowlist
    #: In the order in which they came.
    _waiting: "dict[defer.Deferred[bool], str]" = field(factory=dict, repr=False)
    _calling: bool = False
    #: Set while Redis refuses to tell, so that this is logged once.
    _refusal_logged: bool = False

    @property
    def asking(self) -> int:  # type: ignore[override]
        """Questions that wait for Redis."""
        return len(self._waiting)

    def admits(self, device: str) -> None:
        """Only Redis knows."""
        return

    def ask(self, device: str) -> "defer.Deferred[bool]":
        """Ask Redis, together with what else is to be asked."""
        asked: defer.Deferred[bool] = defer.Deferred(self._waiting.__delitem__)
        self._waiting[asked] = device
        self.on_redis_ready()
        return asked

    def on_redis_ready(self) -> None:
        """Ask what is to be asked, unless that is being done."""
        if self._waiting and not self._calling:
            self._calling = True
            calling = defer.Deferred.fromCoroutine(self._answer_queries())
            calling.addErrback(lambda failure: self.log.failure("asking who is admitted failed", failure))

    async def _answer_queries(self) -> None:
        try:
            while self._waiting:
                batch = list(islice(self._waiting.items(), _BATCH))
                members = await self._members([device for _, device in batch])
                for (asked, _), member in zip(batch, members, strict=True):
                    # One that was cancelled meanwhile has been told.
                    if self._waiting.pop(asked, None) is not None:
                        asked.callback(member)
        except txredisapi.RedisError:
            # They go on waiting: for Redis to be back, or for the next review.
            return
        finally:
            self._calling = False

    async def review(self, devices: Iterable[str]) -> list[str]:
        """Ask after every lock that is here; those that are in the set no more."""
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
