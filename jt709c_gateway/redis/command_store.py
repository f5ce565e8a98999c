"""Stores commands in Redis: queues, claims, records, and adoption after a crash (docs/fencing.rst)."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import define

from jt709c_gateway.commands.serialization import queue_entry_id
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_store_types import (
    Acceptance,
    Claim,
    Events,
    InHand,
    NotOurs,
    Ownership,
    Record,
    SessionClaim,
)
from jt709c_gateway.redis.command_writes import KEEP, UNSETTLED_TTL, CommandWrites
from jt709c_gateway.redis.device_queries import DeviceQueries, as_text
from jt709c_gateway.redis.gateway_registry import GatewayRegistry
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Maximum number of commands that wait for one lock.
MAX_WAITING: Final = 100
#: Reason of a command that is refused because of that limit.
FULL: Final = f"{MAX_WAITING} commands wait for this lock already"
#: Maximum number of routed devices that one call returns.
MAX_ROUTED: Final = 200
#: Lifetime of a gateway's list of routed devices, in seconds.
ROUTE_TTL: Final = 60
#: Length of a report's fingerprint in characters, as in `commit.lua`.
FINGERPRINT: Final = 16
#: Maximum number of commands adopted per call.
ADOPTED_AT_ONCE: Final = 100


def _check_ours(reply: Any) -> None:
    """Raise NotOurs when a script's reply is LATE or MOVED."""
    if isinstance(reply, list) and reply[:1] in ([b"LATE"], [b"MOVED"]):
        raise NotOurs(reply[0] == b"MOVED")


def as_record(flat: list[bytes]) -> dict[str, str]:
    """Convert field, value, … of a hash to a dict of text."""
    texts = [item.decode() for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _fingerprints(joined: str) -> frozenset[str]:
    return frozenset(joined[at : at + FINGERPRINT] for at in range(0, len(joined), FINGERPRINT))


@define
class CommandStore(CommandWrites, DeviceQueries, GatewayRegistry):
    """Stores commands in Redis. Calls fail with txredisapi's errors; `*_writes` are for the committer."""

    caller: Caller
    keys: Keys
    gateway: str
    #: This run of the gateway, `<gateway>/<number>-<boot>`: the `holder` in the records of its commands.
    holder: str = ""

    async def accept(
        self,
        command_id: str,
        device: str,
        entry: bytes,
        command: bytes,
        expires_at: float,
        record: Record,
        events: Events,
        now: str,
        *,
        reachable: bool = False,
        name: str = "",
        alias: str | None = None,
    ) -> Acceptance:
        """Accept a command, unless its id is known, and publish that. `now` is a time in the form of records.

        `name` is the device's name in the command, and `alias` the device found for that IMEI. `command` is
        empty when it must not reach a lock. `reachable` says that this gateway can send to the lock;
        otherwise the gateway that holds the lock is notified.
        """
        flat = [part for item in record.items() for part in item]
        result: int = await scripts.run(
            self.caller,
            scripts.ACCEPT.form_for(self.keys),
            [
                self.keys.command(command_id),
                self.keys.waiting(device),
                self.keys.deadlines,
                self.keys.intake(self.gateway),
                self.keys.session(device),
                self.keys.events,
                self.keys.history(device),
                self.keys.imei,
            ],
            [
                self.keys.prefix,
                KEEP,
                command,
                f"{expires_at:.3f}",
                command_id,
                entry,
                MAX_WAITING,
                self.gateway,
                "1" if reachable else "0",
                FULL,
                now,
                device,
                events.queued,
                events.waiting,
                events.failed,
                events.max_events,
                events.max_history,
                name,
                alias or "",
                *flat,
            ],
        )
        return Acceptance(result)

    async def record(self, command_id: str) -> Record:
        """Return the record of a command; empty when there is none."""
        return as_record(await self.caller.call("HGETALL", self.keys.command(command_id)))

    async def is_known(self, command_id: str) -> bool:
        """Return whether a command has a record."""
        return bool(await self.caller.call("EXISTS", self.keys.command(command_id)))

    async def report(
        self, command_id: str, device: str, state: str, event: str, caps: tuple[int, int]
    ) -> bool:
        """Publish a command's state again; return False when the state has changed."""
        keys = self.keys
        result = await scripts.run(
            self.caller,
            scripts.REPORT.form_for(self.keys),
            [keys.command(command_id), keys.events, keys.history(device)],
            [keys.prefix, device, state, event, *caps],
        )
        return bool(result)

    async def claim(
        self, device: str, take: bool, now: float, session: SessionClaim, passed_over: Sequence[str] = ()
    ) -> Claim:
        """Claim the next command for a lock, or only read its unsettled ones; `now` is in epoch seconds.

        Commands whose ids are `passed_over` stay in the queue. Raises `NotOurs` when this gateway counts as
        dead, or the lock has a newer session.
        """
        reply = await scripts.run(
            self.caller,
            scripts.CLAIM.form_for(self.keys),
            [
                self.keys.waiting(device),
                self.keys.under_way(self.gateway),
                self.keys.device(device),
                self.keys.unsettled(device),
                self.keys.secret(device),
                self.keys.recent(device),
                self.keys.session(device),
            ],
            [
                self.keys.prefix,
                "1" if take else "0",
                f"{now - UNSETTLED_TTL:.3f}",
                "1" if session.arrived else "0",
                device,
                self.holder,
                session.token,
                "0" if session.stored else "1",
                *passed_over,
            ],
        )
        _check_ours(reply)
        command, record, serial, known, secret, unsettled, waiting, sublocks, recent, along = reply
        dialect, firmware, wrong, lock_state, skew = known
        return Claim(
            command,
            as_record(record),
            serial,
            as_text(dialect),
            as_text(firmware),
            int(wrong or 0),
            as_text(secret),
            [as_record(one) for one in unsettled],
            waiting,
            frozenset(one.decode() for one in along),
            as_text(lock_state),
            [(one.decode(), float(time), state.decode()) for one, time, state in sublocks],
            _fingerprints(as_text(recent) or ""),
            None if skew is None else float(skew),
        )

    async def next_serial(self, device: str) -> int:
        """Return a serial number that no recent command of any gateway to this device has used."""
        serial: int = await self.caller.call("HINCRBY", self.keys.device(device), "order_serial", 1)
        return serial

    async def remove(self, command_id: str) -> tuple[bytes | None, Record]:
        """Claim a command from anywhere in its lock's queue; None when it is not in the queue."""
        reply = await scripts.run(
            self.caller,
            scripts.REMOVE.form_for(self.keys),
            [self.keys.command(command_id), self.keys.under_way(self.gateway)],
            [self.keys.prefix, command_id, self.holder],
        )
        _check_ours(reply)
        command, record = reply
        return command, as_record(record)

    async def put_back(self) -> None:
        """Return the unhandled entries of the intake list to the common list, in their old order."""
        moved: object = b""
        while moved is not None:
            moved = await self.caller.call(
                "LMOVE", self.keys.intake(self.gateway), self.keys.commands, "RIGHT", "LEFT"
            )

    async def drop(self, entry: bytes) -> None:
        """Remove a handled entry from the intake list."""
        await self.caller.call("LREM", self.keys.intake(self.gateway), 1, entry)

    async def in_hand(self) -> dict[str, InHand]:
        """Return the commands that this run of the gateway holds, by id."""
        found = await scripts.run(
            self.caller, scripts.HANDS, [self.keys.under_way(self.gateway)], [self.keys.prefix]
        )
        mine = self.holder.encode()
        return {
            command_id.decode(): InHand(command, int(token))
            for command_id, command, holder, token in found
            if holder == mine
        }

    async def ownership(self, command_id: str) -> Ownership:
        """Return the holder of a command, the token of its claim, and how often it was sent."""
        holder, token, attempts, state = await self.caller.call(
            "HMGET", self.keys.command(command_id), "holder", "token", "attempts", "state"
        )
        return Ownership(as_text(holder) or "", int(token or 0), int(attempts or 0), as_text(state) or "")

    async def routed(self) -> list[str]:
        """Return devices of this gateway that others have routed to it; the same ones until `ack_routed`."""
        devices = await self.caller.call("LRANGE", self.keys.route(self.gateway), 0, MAX_ROUTED - 1)
        return [one.decode() for one in devices]

    async def ack_routed(self, count: int) -> None:
        """Remove the first `count` devices that `routed` returned."""
        await self.caller.call("LTRIM", self.keys.route(self.gateway), count, -1)

    async def waiting_ids(self, device: str) -> list[str]:
        """Return the ids of the commands that wait for a device, in order."""
        entries = await self.caller.call("LRANGE", self.keys.waiting(device), 0, -1)
        return [one for one in map(queue_entry_id, entries) if one is not None]

    async def note_imei(self, imei: str, device: str, limit: int) -> None:
        """Note the device of another partition that has reported an IMEI of this one.

        Beyond `limit` IMEIs, another one is forgotten; its device reports it again when it connects.
        """
        await scripts.run(
            self.caller,
            scripts.IMEI.form_for(self.keys),
            [self.keys.imei],
            [self.keys.prefix, imei, device, limit],
        )

    async def notify_owner(self, device: str) -> None:
        """Notify the gateway that holds a lock, if it is another one, that commands wait for it."""
        holder = as_text(await self.caller.call("HGET", self.keys.session(device), "gateway"))
        if holder is not None and holder != self.gateway:
            route = self.keys.route(holder)
            await self.caller.call("RPUSH", route, device)
            await self.caller.call("EXPIRE", route, ROUTE_TTL)

    async def adopt(self, gateway: str, said: bytes = b"") -> list[tuple[bytes, Record]] | None:
        """Adopt commands of a dead gateway; None while it lives. Repeat until the result is empty.

        `said` is its stored liveness when it is known to be dead before that expires. Under our own name, the
        commands of earlier runs are adopted. Raises `NotOurs` when this gateway itself counts as dead.
        """
        keys = self.keys
        reply = await scripts.run(
            self.caller,
            scripts.ADOPT.form_for(self.keys),
            [
                keys.gateway(gateway),
                keys.intake(gateway),
                keys.under_way(gateway),
                keys.commands,
                keys.under_way(self.gateway),
                keys.gateways,
            ],
            [keys.prefix, gateway, said, self.holder, ADOPTED_AT_ONCE],
        )
        _check_ours(reply)
        return None if reply is None else [(command, as_record(record)) for command, record in reply]
