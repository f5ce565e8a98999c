"""Pushes a command to Redis, and follows it to its outcome."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec
import txredisapi
from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.device_lookup import resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.redis_client import (
    FirstConnection,
    Link,
    connect,
    fire_once,
    subscribe,
)
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.catalogue import CATALOGUE, LOCAL_COMMANDS
from jt709c_gateway.commands.model import ENDED, Command, CommandState
from jt709c_gateway.commands.serialization import to_wire
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.protocol.device_id import TERMINAL_DIGITS, canonical, may_be_sublock
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import PING_EVERY, glob_escape, keep_alive

_GOOD: Final = frozenset([CommandState.DONE, CommandState.CONFIRMED])


_BAD: Final = frozenset(
    [CommandState.REJECTED, CommandState.FAILED, CommandState.INVALID, CommandState.CANCELLED]
)


_NOT_KNOWN: Final = 3


#: Seconds within which a gateway should have accepted the command.
_TAKEN_WITHIN: Final = 5.0


#: Seconds that gateways may add to the times of a command: to confirm, to repeat, to detect a crash.
_MARGIN: Final = 600.0


@define(eq=False)
class Push:
    """A command to queue, its destination and the output format."""

    link: Link
    prefix: str
    command: Command
    wait: bool
    as_json: bool
    #: The signing key, None for an unsigned command.
    key: SigningKey | None = None
    #: Whether times are shown in the local zone.
    local: bool = False
    first: FirstConnection = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.first = FirstConnection(self.link.address.masked())

    @property
    def keys(self) -> Keys:
        """The names of keys."""
        return Keys(self.prefix)

    @property
    def patience(self) -> float:
        """Seconds after which the command must have ended."""
        return self.command.ttl + 4 * self.command.timeout + _MARGIN


class _Follower:
    """Prints the states of one command; `ended` fires with the final one."""

    def __init__(self, push: Push) -> None:
        self.ended: defer.Deferred[CommandState] = defer.Deferred()
        self.heard = False
        #: Whether the lock was never heard, which is noted when the command waits for it.
        self.unheard = False
        self._push = push
        self._state: str | None = None
        self._out = console()

    def on_message(self, channel: str, payload: bytes) -> None:
        """Process a `command` event; ignore those of other commands."""
        try:
            event = msgspec.json.decode(payload, type=dict[str, Any])
            if isinstance(data := event.get("data"), dict) and data.get("id") == self._push.command.id:
                self._show(event, payload)
        except (msgspec.MsgspecError, RecursionError):
            notice(f"{plain(channel)}: received a message that is not an event")
        except Exception:
            if not self.ended.called:
                self.ended.errback()

    def _show(self, event: Mapping[str, Any], payload: bytes) -> None:
        if self._push.as_json:
            self._out.out(escape_text(payload.decode("utf-8", "replace")), highlight=False)
        else:
            # On a terminal an id of 32 digits in each line would break it.
            short = self.heard and self._out.is_terminal
            format_line = event_format.further_state if short else event_format.line
            print_line(self._out, format_line(event, self._push.local), event_format.INDENT)
        self.reached(event["data"].get("state"))

    def missed(self, state: str) -> None:
        """Process the state in the record after a reconnect."""
        if state != self._state and not self.ended.called:
            if not self._push.as_json:
                self._out.print(f"meanwhile: {plain(state)}")
            self.reached(state)

    def reached(self, state: Any) -> None:
        """Record a state; a final one fires `ended`."""
        self.heard, self._state = True, state
        if state == CommandState.WAITING and self.unheard:
            self.unheard = False
            notice(
                f"{_unheard(self._push)}; the command waits for it for {self._push.command.ttl:.0f} s (--ttl)"
            )
        if state in ENDED and not self.ended.called:
            self.ended.callback(CommandState(state))


async def queue(reactor: Any, push: Push) -> int:
    """Push the command and wait for its outcome if requested; return the exit status."""
    talking_ready: defer.Deferred[None] = defer.Deferred()
    connection = connect(reactor, push.link, push.prefix, ready=lambda: fire_once(talking_ready))
    if not push.wait:
        connection.startService()
        try:
            await push.first.wait(reactor, talking_ready)
            if await _is_unheard(connection, push):
                notice(f"{_unheard(push)}; a valid command waits for it for {push.command.ttl:.0f} s (--ttl)")
            await _push(connection, push)
            _print_queued(push)
        finally:
            await connection.stopService()
        return 0
    return await _follow(reactor, push, connection, talking_ready)


async def _follow(
    reactor: Any, push: Push, connection: RedisConnection, talking_ready: "defer.Deferred[None]"
) -> int:
    follower = _Follower(push)
    listening_ready: defer.Deferred[None] = defer.Deferred()

    def subscribed() -> None:
        if listening_ready.called:
            _look_up(connection, push, follower)
        else:
            listening_ready.callback(None)

    subscription = subscribe(reactor, push.link, [_pattern(push)], follower.on_message, ready=subscribed)
    pinging = task.LoopingCall(keep_alive, subscription)
    pinging.clock = reactor
    for service in (connection, subscription):
        service.startService()
    pinging.start(PING_EVERY, now=False)
    try:
        both = defer.gatherResults([talking_ready, listening_ready], consumeErrors=True)
        await push.first.wait(reactor, both.addCallback(lambda _: None))
        follower.unheard = await _is_unheard(connection, push)
        await _push(connection, push)
        lonely = reactor.callLater(_TAKEN_WITHIN, _not_taken, follower)
        try:
            return _status(await follower.ended.addTimeout(push.patience, reactor))
        except defer.CancelledError:
            notice(
                f"command {push.command.id} goes on; "
                f"jt709c history {push.command.device} shows what becomes of it"
            )
            raise
        except defer.TimeoutError:
            notice(f"nothing more was heard of the command within {push.patience:.0f} s")
            return _NOT_KNOWN
        finally:
            if lonely.active():
                lonely.cancel()
    finally:
        pinging.stop()
        await subscription.stopService()
        await connection.stopService()


def _pattern(push: Push) -> str:
    """Return the channels of the command's events; the device of an IMEI or sub-lock is unknown here."""
    name = push.command.device
    device = canonical(name)
    is_device = len(device) <= TERMINAL_DIGITS and not may_be_sublock(name)
    return Keys(glob_escape(push.prefix)).channel("command", device if is_device else "*")


async def _is_unheard(connection: RedisConnection, push: Push) -> bool:
    """Return whether a new command will wait for a lock that has never reported.

    False where this Redis user may not read that, for commands of the gateway itself, and for a known id,
    whose command is not carried out again.
    """
    if push.command.name in LOCAL_COMMANDS:
        return False
    try:
        if await connection.call("HGET", push.keys.command(push.command.id), "state") is not None:
            return False
        named = await resolve(connection, push.keys, push.command.device)
        return await connection.call("ZSCORE", push.keys.devices, named.device) is None
    except (txredisapi.ResponseError, txredisapi.ConnectionError):
        return False


def _unheard(push: Push) -> str:
    return f"no such lock has been heard: {push.command.device} (prefix {push.prefix})"


async def _push(connection: RedisConnection, push: Push) -> None:
    try:
        await connection.call("RPUSH", push.keys.commands, to_wire(push.command, push.key, time.time()))
    except txredisapi.ResponseError as error:
        raise UserError(f"Redis refused the command: {plain(error)}") from None
    except txredisapi.ConnectionError:
        raise UserError(
            f"the connection to Redis was lost; command {push.command.id} may have been queued: send it again"
            " with this --id, and it won't be carried out twice"
        ) from None


def _known(command: str) -> str | None:
    """Return a name of the catalogue; another one may be a misplaced password."""
    return command if command in CATALOGUE else None


def _print_queued(push: Push) -> None:
    command = push.command
    if push.as_json:
        fields = {
            "id": command.id,
            "device": command.device,
            "command": _known(command.name),
            "reply_to": command.reply_to,
        }
        click.echo(to_json(fields))
        return
    click.echo(f"command {command.id} queued: {_known(command.name) or 'COMMAND'} for {command.device}")
    if command.reply_to:
        click.echo(f"outcomes are also pushed to {push.keys.reply(command.reply_to)}")


def _look_up(connection: RedisConnection, push: Push, follower: _Follower) -> None:
    """Read the state from the record after a reconnect, since events were missed."""

    def found(state: Any) -> None:
        if isinstance(state, bytes):
            follower.missed(state.decode("utf-8", "replace"))

    connection.call("HGET", push.keys.command(push.command.id), "state").addCallbacks(found, lambda _: None)


def _not_taken(follower: _Follower) -> None:
    if not follower.heard:
        notice("no gateway has accepted the command yet; it waits in Redis")


def _status(state: CommandState) -> int:
    if state in _GOOD:
        return 0
    return 1 if state in _BAD else _NOT_KNOWN
