"""Gateways under two names, locks that move between them, one Redis, and faults among these."""

from typing import Any, Final

from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.commands.record import Limits
from tests.support import RedisError, ValkeyServer
from tests.support.acl import GATEWAY, log_in, password_of, rules_of
from tests.support.command_bench import GATEWAY_TTL, START
from tests.support.commands import CommandClient
from tests.support.fencing_lines import Account, Gateway, Request
from tests.support.fencing_locks import Unit

NAMES: Final = ("gw1", "gw2")
#: Number of processes at a time: one name may have two.
MOST_GATEWAYS: Final = 3


@define(eq=False)
class PushedCommand:
    """A command that was pushed, perhaps several times under the same id."""

    id: str
    physical: bool
    #: Its frame contains one of these.
    marks: list[bytes] = field(factory=list)
    #: The id of the command that it cancels.
    target: str | None = None
    state: str = ""


@define(eq=False)
class World:
    """One Redis and everything connected to it. `now` is in seconds, for everything that has a clock."""

    server: ValkeyServer
    prefix: str
    client: CommandClient = field(init=False)
    account: Account = field(init=False)
    gateways: list[Gateway] = field(factory=list)
    #: Processes that have ended.
    gone: list[Gateway] = field(factory=list)
    units: list[Unit] = field(factory=list)
    pushed: dict[str, PushedCommand] = field(factory=dict)
    #: Requests on lost connections, which reach Redis late or never.
    stray: list[tuple[Gateway, list[Request]]] = field(factory=list)
    #: Rights that were removed.
    denied: set[str] = field(factory=set)
    #: Keys that have another type now, and whether their values come back.
    displaced: dict[str, bool] = field(factory=dict)
    #: Whether Redis refused anything, so that an event may be missing; whether lists were lost.
    refused: bool = False
    lost: bool = False
    _boots: int = 0
    _user: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = CommandClient(self.server, self.prefix)
        self._user = f"gateway-of-{self.prefix}"
        self.client.redis.call("ACL", "SETUSER", self._user, *rules_of(GATEWAY, self.prefix))
        client = log_in(self.server.client(), self._user, password_of(GATEWAY))
        self.account = Account(client, self.client.redis, START)
        self.units = [Unit(str(794308990001 + number)) for number in range(2)]

    def close(self) -> None:
        """Close all connections."""
        self.client.redis.call("ACL", "DELUSER", self._user)
        self.account.client.close()
        self.client.close()

    @property
    def now(self) -> float:
        return self.account.now

    # Gateways

    def boot(self, name: str) -> None:
        """Start a process of this name, even if another has it."""
        self._boots += 1
        gateway = Gateway(
            self.account, self.prefix, name, ttl=GATEWAY_TTL, limits=Limits(confirm_timeout=5.0)
        )
        self.gateways.append(gateway)
        gateway.background_tasks.startService()
        gateway.background_tasks.start(gateway.blocking)
        gateway.connected()

    def kill(self, gateway: Gateway) -> None:
        """Kill a process; its last requests may still reach Redis."""
        self.gateways.remove(gateway)
        self.gone.append(gateway)
        self.stray.append((gateway, [one for one in gateway.wire.pending if not one.is_executed]))
        self.stray.append((gateway, [one for one in gateway.blocking.pending if not one.is_executed]))
        for line in (gateway.wire, gateway.blocking):
            line.pending, line.connected = [], False
        for unit in self.units:
            unit.cut_off(gateway)

    def stop(self, gateway: Gateway) -> None:
        """Stop a process as a signal does."""
        gateway.background_tasks.stop_intake()
        gateway.run()
        gateway.gateway.close_connections()
        gateway.run()
        defer.Deferred.fromCoroutine(gateway.background_tasks.deregister())
        gateway.run()
        gateway.background_tasks.stopService()
        gateway.run()
        self.kill(gateway)

    def lose_connection(self, gateway: Gateway) -> None:
        """Lose its connections to Redis; requests sent over them may be executed later."""
        self.stray.append((gateway, gateway.wire.lost()))
        self.stray.append((gateway, gateway.blocking.lost()))

    def heal(self, gateway: Gateway) -> None:
        """Reconnect it to Redis."""
        gateway.cut = False
        if not gateway.wire.connected and not gateway.frozen:
            gateway.connected()

    def execute_stray(self) -> None:
        """Execute the oldest request of a lost connection."""
        while self.stray:
            gateway, requests = self.stray[0]
            if not requests:
                self.stray.pop(0)
                continue
            request = requests.pop(0)
            blocks = request.commands[0][0] == "BLMOVE"
            # The server itself stops waiting for a list.
            if not blocks or self.now - request.asked < float(request.commands[0][-1]):
                gateway.wire.execute(request)
            return

    def pass_time(self, seconds: float) -> None:
        """Advance the time of everything that has a clock."""
        self.account.now += seconds
        for gateway in self.gateways:
            if not gateway.frozen and gateway.is_unanswered(self.now):
                self.lose_connection(gateway)
        for gateway in list(self.gateways):
            gateway.follow(self.now)
            if not gateway.wire.connected and not gateway.cut and not gateway.frozen:
                gateway.connected()
        for key, at in list(self.account.renewed.items()):
            if self.now - at >= GATEWAY_TTL:
                self.client.redis.call("DEL", key)
                del self.account.renewed[key]

    # Redis

    def deny(self, command: str) -> None:
        """Remove the gateways' right to a command."""
        self.denied.add(command)
        self.refused = True
        self.client.redis.call("ACL", "SETUSER", self._user, f"-{command}")

    def grant(self) -> None:
        """Restore the gateways' rights."""
        for command in sorted(self.denied):
            self.client.redis.call("ACL", "SETUSER", self._user, f"+{command}")
        self.denied.clear()

    def displace(self, key: str, comes_back: bool) -> None:
        """Replace a key by a key of another type."""
        if key in self.displaced:
            return
        redis = self.client.redis
        self.displaced[key] = comes_back
        self.refused = True
        self.lost = self.lost or not comes_back
        was = redis.call("TYPE", key)
        if was != b"none":
            redis.call("RENAME", key, f"{key}:aside")
        if was == b"string":
            redis.call("RPUSH", key, "x")
        else:
            redis.call("SET", key, "x")

    def replace(self) -> None:
        """Remove these keys again."""
        redis = self.client.redis
        for key, comes_back in self.displaced.items():
            for kind, read in ((b"string", ("GET", key)), (b"list", ("LINDEX", key, 0))):
                if redis.call("TYPE", key) == kind and redis.call(*read) == b"x":
                    redis.call("DEL", key)
            if not redis.call("EXISTS", f"{key}:aside"):
                continue
            if comes_back and not redis.call("EXISTS", key):
                redis.call("RENAME", f"{key}:aside", key)
            else:
                redis.call("DEL", f"{key}:aside")
        self.displaced.clear()

    # Commands

    def push_command(self, unit: Unit, command: str, ttl: int, again: str | None = None) -> None:
        """Push a command, new or with an id that was pushed before."""
        number = sum(len(one.marks) for one in self.pushed.values()) + len(self.pushed) + 1
        command_id = again or f"o{number}"
        one = self.pushed.setdefault(command_id, PushedCommand(command_id, command == "unlock"))
        more = {"id": command_id, "ttl": ttl, "timeout": 3, "reply_to": f"r{number}"}
        if command == "unlock":
            password = f"{number:06d}"
            one.marks.append(b"," + password.encode() + b")")
            self.client.unlock(unit.device, password, **more)
        else:
            self.client.command(unit.device, command, **more)

    def advance_unlock(self, unit: Unit, stage: str, before_reply: bool) -> None:
        """Push an unlock command and advance it to a given step; the reply to that step may have arrived."""
        self.push_command(unit, "unlock", 40)
        one = next(reversed(self.pushed.values()))
        for _ in range(100):
            busy = False
            for gateway in self.gateways:
                if not gateway.frozen:
                    gateway.clock.advance(0)
                    gateway.wire.work() or gateway.blocking.work()
                if before_reply and self._has_come_to(one, stage):
                    return
                busy = gateway.step() or busy
                if self._has_come_to(one, stage):
                    return
            if not busy:
                self.pass_time(0.1)

    def _has_come_to(self, one: PushedCommand, stage: str) -> bool:
        try:
            record = self.client.record(one.id)
        except RedisError:
            return False
        if stage == "written":
            for unit in self.units:
                unit.collect()
        reached = {
            "queued": "state" in record,
            "claimed": record.get("token", "0") != "0",
            "recorded": record.get("attempts", "0") != "0",
            "written": self.writes(one) > 0,
            "sent": record.get("state") == "sent",
        }
        return reached[stage]

    def push_cancel(self, unit: Unit, target: str) -> None:
        """Push a cancel command."""
        command_id = f"c{len(self.pushed) + 1}"
        self.pushed[command_id] = PushedCommand(command_id, False, target=target)
        self.client.command(unit.device, "cancel", {"id": target}, id=command_id)

    def writes(self, one: PushedCommand) -> int:
        """Return how often a command was written, over all connections."""
        written = [data for unit in self.units for data in unit.written]
        return sum(mark in data for mark in one.marks for data in written)

    def steps_to(self, gateway: Gateway, script: str, most: int = 60) -> None:
        """Continue a gateway until it is about to send this request."""
        for _ in range(most):
            gateway.clock.advance(0)
            waiting = [one for one in gateway.wire.pending if not one.is_executed]
            if waiting and waiting[0].is_of(script):
                return
            if not gateway.step():
                return

    def key(self, *parts: Any) -> str:
        """Return a key under the prefix."""
        return self.client.key(*parts)
