"""Gives each record to the committer of its device's partition."""

from collections.abc import Sequence
from typing import Protocol

from attrs import define

from jt709c_gateway.redis.batch import Answer, Recipient, Then
from jt709c_gateway.redis.commit_outcomes import Statistics
from jt709c_gateway.redis.commit_records import CommitRecord, MalformedRecord
from jt709c_gateway.redis.committer import Committer, Limits
from jt709c_gateway.redis.partitions import Partitions


class Commits(Protocol):
    """A committer, or a `CommitRouter` for several."""

    @property
    def boot(self) -> str:
        """Identifies this run of the gateway."""

    @property
    def limits(self) -> Limits:
        """Maximum lengths of the keys that are written."""

    @property
    def full(self) -> bool:
        """Whether no record may be queued for any device."""

    @property
    def unacked(self) -> int:
        """Number of queued records."""

    @property
    def max_unacked(self) -> int:
        """Number of queued records at which callers must stop reading frames."""

    @property
    def statistics(self) -> Statistics:
        """What was counted."""

    @property
    def submitted(self) -> int:
        """Number of records that were ever submitted."""

    #: Set while records are submitted that `send_batch` will send, in the same turn of the reactor.
    batching: bool

    def send_batch(self) -> None:
        """Send what was submitted while `batching`."""

    def of(self, device: str) -> Committer:
        """Return the committer of a device's partition."""

    def submit(
        self,
        record: CommitRecord,
        recipient: Recipient | None = None,
        answer: Answer = None,
        then: Then | None = None,
    ) -> None:
        """Queue a record, as `Committer.submit` does."""


@define(eq=False)
class CommitRouter:
    """Routes records to several committers, one for each partition.

    A partition that can't be reached holds up the records of its own devices only.
    """

    partitions: Partitions
    committers: Sequence[Committer]

    @property
    def boot(self) -> str:
        """Identifies this run of the gateway."""
        return self.committers[0].boot

    @property
    def limits(self) -> Limits:
        """Maximum lengths of the keys that are written, for each partition."""
        return self.committers[0].limits

    @property
    def full(self) -> bool:
        """Whether no record may be queued for any device."""
        return all(one.full for one in self.committers)

    @property
    def unacked(self) -> int:
        """Number of queued records of all partitions."""
        return sum([one.unacked for one in self.committers])

    @property
    def max_unacked(self) -> int:
        """Number of queued records, of all partitions, at which callers must stop reading frames."""
        return sum([one.max_unacked for one in self.committers])

    @property
    def statistics(self) -> Statistics:
        """What was counted in all partitions."""
        return Statistics.sum_of([one.statistics for one in self.committers])

    @property
    def submitted(self) -> int:
        """Number of records that were ever submitted."""
        return sum([one.submitted for one in self.committers])

    @property
    def batching(self) -> bool:
        """Whether records are submitted that `send_batch` will send, in the same turn of the reactor."""
        return self.committers[0].batching

    @batching.setter
    def batching(self, now: bool) -> None:
        for one in self.committers:
            one.batching = now

    def send_batch(self) -> None:
        """Send what was submitted while `batching`, to all partitions."""
        for one in self.committers:
            one.send_batch()

    def of(self, device: str) -> Committer:
        """Return the committer of a device's partition."""
        return self.committers[self.partitions.number(device)]

    def submit(
        self,
        record: CommitRecord,
        recipient: Recipient | None = None,
        answer: Answer = None,
        then: Then | None = None,
    ) -> None:
        """Queue a record for its partition; unreadable input for any that can take it."""
        if isinstance(record, MalformedRecord):
            committer = self._any_for(record.peer)
        else:
            committer = self.of(record.device)
        committer.submit(record, recipient, answer, then)

    def _any_for(self, peer: str) -> Committer:
        """Return the committer of a connected partition, the same one for a peer if possible."""
        first = self.partitions.number(peer)
        turned = [*self.committers[first:], *self.committers[:first]]
        return next((one for one in turned if one.connection.connected and not one.full), turned[0])
