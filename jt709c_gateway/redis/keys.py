"""The names of all keys and channels in Redis (docs/redis.rst).

No other Python module spells them, and no Lua script, where `lua_source.py` puts them in.
"""

from enum import StrEnum
from typing import Final

from attrs import frozen

DEFAULT_PREFIX: Final = "jt709c"


class Channels(StrEnum):
    """Where the events of a partition are published."""

    OWN = "own"
    """On channels under the prefix of its keys, which are all keys."""
    SHARED = "shared"
    """On channels that all partitions share, under the prefix before the partition's number."""
    SHARDED = "sharded"
    """With sharded pub/sub (SPUBLISH) on channels under the prefix of its keys, on the node that has them."""


@frozen
class Keys:
    """Keys and channels under one prefix. On Redis Cluster the prefix is a hash tag such as `{jt709c}`."""

    prefix: str = DEFAULT_PREFIX
    channels: Channels = Channels.OWN
    #: How many partitions the fleet has.
    count: int = 1

    def channel(self, kind: str, device: str) -> str:
        """Channel on which events of this kind and device are published; `*` for either makes a pattern."""
        shared = self.channels is Channels.SHARED
        return f"{self.prefix.rpartition(':')[0] if shared else self.prefix}:event:{kind}:{device}"

    @property
    def events(self) -> str:
        """Stream of all events."""
        return f"{self.prefix}:events"

    @property
    def devices(self) -> str:
        """Sorted set: device by last seen, epoch seconds."""
        return f"{self.prefix}:devices"

    @property
    def spared(self) -> str:
        """String, expiring: how many of the longest unseen devices are kept because of their audit trail."""
        return f"{self.prefix}:devices:spared"

    @property
    def histories(self) -> str:
        """Sorted set: devices with an audit trail; when there are too many, the lowest is deleted first."""
        return f"{self.prefix}:histories"

    @property
    def let_go(self) -> str:
        """Hash: how many `devices` and `histories` were deleted because of their limits."""
        return f"{self.prefix}:let_go"

    @property
    def imei(self) -> str:
        """Hash: IMEI -> device id."""
        return f"{self.prefix}:imei"

    def recent(self, device: str) -> str:
        """String: the concatenated fingerprints of a device's last reports."""
        return f"{self.prefix}:recent:{device}"

    def peripheral(self, peripheral: str) -> str:
        """Hash: last known state of a sub-lock or sensor, and the master it reported through."""
        return f"{self.prefix}:peripheral:{peripheral}"

    def peripherals(self, device: str) -> str:
        """Sorted set: the sub-locks and sensors behind a master by last seen, epoch seconds."""
        return f"{self.prefix}:peripherals:{device}"

    @property
    def malformed(self) -> str:
        """Stream of malformed frames."""
        return f"{self.prefix}:malformed"

    @property
    def allowed(self) -> str:
        """Set of the devices admitted with ``--admit redis``."""
        return f"{self.prefix}:allowed"

    def area(self, name: str) -> str:
        """String: a named area, JSON; the same in all partitions."""
        return f"{self.prefix}:area:{name}"

    @property
    def areas(self) -> str:
        """Set: the names of all areas; in all partitions."""
        return f"{self.prefix}:areas"

    def device(self, device: str) -> str:
        """Hash: last known state of a device."""
        return f"{self.prefix}:device:{device}"

    def label(self, device: str) -> str:
        """Hash: what people call a device."""
        return f"{self.prefix}:label:{device}"

    @property
    def labels(self) -> str:
        """Set: the devices with a label."""
        return f"{self.prefix}:labels"

    @property
    def label_changes(self) -> str:
        """Sorted set, capped and expiring: devices by when their label was last written, epoch seconds."""
        return f"{self.prefix}:labels:changed"

    def history(self, device: str) -> str:
        """Stream: the audit trail of a device."""
        return f"{self.prefix}:history:{device}"

    def track(self, device: str) -> str:
        """List, capped: positions of a device, newest arrival last."""
        return f"{self.prefix}:track:{device}"

    def session(self, device: str) -> str:
        """Hash, expiring: the gateway and session of a device."""
        return f"{self.prefix}:session:{device}"

    def online_at(self, gateway: str) -> str:
        """Set: devices that are online at a gateway, according to the published events."""
        return f"{self.prefix}:sessions:{gateway}"

    def secret(self, device: str) -> str:
        """String, expiring: the dynamic password that a device reported last."""
        return f"{self.prefix}:secret:{device}"

    def commit_marker(self, gateway: str, boot: str) -> str:
        """String, expiring: the number of the last batch applied for this run of a gateway."""
        return f"{self.prefix}:commit:{gateway}:{boot}"

    @property
    def commands(self) -> str:
        """List: new commands."""
        return f"{self.prefix}:commands"

    def intake(self, gateway: str) -> str:
        """List: commands that a gateway has read and not yet recorded."""
        return f"{self.prefix}:commands:intake:{gateway}"

    def route(self, gateway: str) -> str:
        """List, expiring: locks that this gateway has to check: a command came in, or the lock moved."""
        return f"{self.prefix}:commands:route:{gateway}"

    def waiting(self, device: str) -> str:
        """List: commands queued for a device, in order, until they are sent."""
        return f"{self.prefix}:commands:waiting:{device}"

    def under_way(self, gateway: str) -> str:
        """Hash: command id -> command, for the commands that a gateway is sending or awaits an answer to."""
        return f"{self.prefix}:commands:underway:{gateway}"

    def unsettled(self, device: str) -> str:
        """Hash, expiring: command id -> epoch second, for commands that later evidence may still settle."""
        return f"{self.prefix}:commands:unsettled:{device}"

    @property
    def deadlines(self) -> str:
        """Sorted set: ids of waiting commands by the end of their ttl, epoch seconds."""
        return f"{self.prefix}:commands:deadlines"

    @property
    def invalid(self) -> str:
        """List, capped: invalid commands, with the reason."""
        return f"{self.prefix}:commands:invalid"

    def command(self, command_id: str) -> str:
        """Hash: the state of one command, expiring."""
        return f"{self.prefix}:command:{command_id}"

    def batch(self, batch_id: str) -> str:
        """String, expiring: a batch that the API gives, as JSON."""
        return f"{self.prefix}:batch:{batch_id}"

    def batch_lease(self, batch_id: str) -> str:
        """String, expiring: the gateway whose web service gives the commands of a batch now."""
        return f"{self.prefix}:giving:{batch_id}"

    @property
    def recent_commands(self) -> str:
        """Sorted set, capped: ids of the last commands by their time of acceptance, epoch seconds."""
        return f"{self.prefix}:commands:recent"

    @property
    def partitions(self) -> str:
        """String: how many partitions there are; in each of several."""
        return f"{self.prefix}:partitions"

    @property
    def transfers(self) -> str:
        """List: what other partitions have to get from this one, see `redis/transfers.py`."""
        return f"{self.prefix}:transfers"

    @property
    def transfer_lease(self) -> str:
        """String, expiring: the gateway that delivers what others have left among the transfers."""
        return f"{self.prefix}:transfers:lease"

    def reply(self, name: str) -> str:
        """List, expiring: outcomes of the commands with this `reply_to` name."""
        return f"{self.prefix}:reply:{name}"

    def gateway(self, gateway: str) -> str:
        """String, expiring: liveness of a gateway."""
        return f"{self.prefix}:gateway:{gateway}"

    @property
    def epoch(self) -> str:
        """String: number of the last run of any gateway."""
        return f"{self.prefix}:epoch"

    @property
    def gateways(self) -> str:
        """Set: all gateways that may have left commands or sessions behind."""
        return f"{self.prefix}:gateways"


@frozen
class RepartitionKeys:
    """The keys of `jt709c repartition` under the prefix of a partition; gone when it has ended."""

    prefix: str

    @property
    def record(self) -> str:
        """Hash: what is moved, and how far that is."""
        return f"{self.prefix}:repartition"

    @property
    def lease(self) -> str:
        """String, expiring: the process that moves the keys."""
        return f"{self.prefix}:repartition:lease"

    @property
    def fence(self) -> str:
        """String, expiring: a write to wait for."""
        return f"{self.prefix}:repartition:fence"

    def copied(self, name: str) -> str:
        """Copy of a key, under the name that follows the prefix; it gets that name in the end."""
        return f"{self.prefix}:repartition:copied:{name}"

    def partial(self, name: str) -> str:
        """Copy that is not complete yet."""
        return f"{self.prefix}:repartition:partial:{name}"

    def passed_on(self, name: str) -> str:
        """String: how many entries of a list were passed on from here, or have arrived."""
        return f"{self.prefix}:repartition:passed_on:{name}"
