"""The names of everything in Redis (DESIGN.md §3, §4). No other module spells a key."""

from typing import Final

from attrs import frozen

DEFAULT_PREFIX: Final = "jt709c"


@frozen
class Keys:
    """Keys and channels under one prefix. On Redis Cluster the prefix is a hash tag such as `{jt709c}`."""

    prefix: str = DEFAULT_PREFIX

    def channel(self, kind: str, device: str) -> str:
        """Where an event of this kind of this device is published; `*` for either makes a pattern."""
        return f"{self.prefix}:event:{kind}:{device}"

    @property
    def events(self) -> str:
        """Stream of all events."""
        return f"{self.prefix}:events"

    @property
    def devices(self) -> str:
        """Sorted set: device by last seen, epoch seconds."""
        return f"{self.prefix}:devices"

    @property
    def histories(self) -> str:
        """Sorted set: devices that have an audit trail; the lowest goes first when there are too many."""
        return f"{self.prefix}:histories"

    @property
    def let_go(self) -> str:
        """Hash: how many `devices` and `histories` had to be let go because of their limits."""
        return f"{self.prefix}:let_go"

    @property
    def imei(self) -> str:
        """Hash: IMEI -> device id."""
        return f"{self.prefix}:imei"

    def recent(self, device: str) -> str:
        """String: fingerprints of a device's last reports, one after the other."""
        return f"{self.prefix}:recent:{device}"

    def peripheral(self, peripheral: str) -> str:
        """Hash: last known state of a sub-lock or sensor, and the master it reported through."""
        return f"{self.prefix}:peripheral:{peripheral}"

    def peripherals(self, device: str) -> str:
        """Sorted set: the sub-locks and sensors behind a master by last seen, epoch seconds."""
        return f"{self.prefix}:peripherals:{device}"

    @property
    def malformed(self) -> str:
        """Stream of what could not be read."""
        return f"{self.prefix}:malformed"

    @property
    def allowed(self) -> str:
        """Set of the devices that are admitted with ``--admit redis``."""
        return f"{self.prefix}:allowed"

    def device(self, device: str) -> str:
        """Hash: last known state of a device."""
        return f"{self.prefix}:device:{device}"

    def history(self, device: str) -> str:
        """Stream: the audit trail of a device."""
        return f"{self.prefix}:history:{device}"

    def track(self, device: str) -> str:
        """List, capped: where a device has been, newest arrival last."""
        return f"{self.prefix}:track:{device}"

    def session(self, device: str) -> str:
        """Hash, expiring: which gateway holds the device."""
        return f"{self.prefix}:session:{device}"

    def online_at(self, gateway: str) -> str:
        """Set: devices that are online at a gateway, as far as events have told."""
        return f"{self.prefix}:sessions:{gateway}"

    def secret(self, device: str) -> str:
        """The dynamic password a device reported last, expiring."""
        return f"{self.prefix}:secret:{device}"

    def commit_marker(self, gateway: str, boot: str) -> str:
        """The number of the last batch that this run of a gateway had applied, expiring."""
        return f"{self.prefix}:commit:{gateway}:{boot}"

    @property
    def commands(self) -> str:
        """List: commands come in here."""
        return f"{self.prefix}:commands"

    def intake(self, gateway: str) -> str:
        """List: commands that a gateway has taken and not yet recorded."""
        return f"{self.prefix}:commands:intake:{gateway}"

    def route(self, gateway: str) -> str:
        """List, expiring: locks that this gateway is to look after: a command came in, or they moved."""
        return f"{self.prefix}:commands:route:{gateway}"

    def waiting(self, device: str) -> str:
        """List: commands for a device, in order, until they are written to it."""
        return f"{self.prefix}:commands:waiting:{device}"

    def under_way(self, gateway: str) -> str:
        """Hash: command id -> command, for those that a gateway is writing or awaits an answer to."""
        return f"{self.prefix}:commands:underway:{gateway}"

    def unsettled(self, device: str) -> str:
        """Hash, expiring: command id -> epoch second, for those whose fate later evidence may still
        settle."""
        return f"{self.prefix}:commands:unsettled:{device}"

    @property
    def deadlines(self) -> str:
        """Sorted set: waiting command ids by the moment their ttl ends, epoch seconds."""
        return f"{self.prefix}:commands:deadlines"

    @property
    def invalid(self) -> str:
        """List, capped: commands that could not be read, with the reason."""
        return f"{self.prefix}:commands:invalid"

    def command(self, command_id: str) -> str:
        """Hash: the state of one command, expiring."""
        return f"{self.prefix}:command:{command_id}"

    @property
    def recent_commands(self) -> str:
        """Sorted set, capped: ids of the last commands by when they were taken in, epoch seconds."""
        return f"{self.prefix}:commands:recent"

    def reply(self, name: str) -> str:
        """List, expiring: outcomes of the commands that asked for them under this name."""
        return f"{self.prefix}:reply:{name}"

    def gateway(self, gateway: str) -> str:
        """Liveness of a gateway, expiring."""
        return f"{self.prefix}:gateway:{gateway}"

    @property
    def epoch(self) -> str:
        """Number of the last run of any gateway."""
        return f"{self.prefix}:epoch"

    @property
    def gateways(self) -> str:
        """Set of all gateways that may have left something behind."""
        return f"{self.prefix}:gateways"
