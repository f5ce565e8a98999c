"""Queues a command and waits for its outcome, for `jt709c send`."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec
import txredisapi
from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.redis_client import Link, listen, talk
from jt709c_gateway.cli.redis_connection import FirstConnection, once
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.catalogue import CATALOGUE
from jt709c_gateway.commands.model import ENDED, Command, CommandState
from jt709c_gateway.commands.serialization import to_wire
from jt709c_gateway.commands.signing_keys import SigningKey
from jt709c_gateway.commands.sublocks import SUBLOCK_ID
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
            notice(f"on {plain(channel)} came something that is no event")
        except Exception:
            if not self.ended.called:
                self.ended.errback()

    def _show(self, event: Mapping[str, Any], payload: bytes) -> None:
        if self._push.as_json:
            self._out.out(escape_text(payload.decode("utf-8", "replace")), highlight=False)
        else:
            self._out.print(event_format.line(event), soft_wrap=True)
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
        if state in ENDED and not self.ended.called:
            self.ended.callback(CommandState(state))


async def queue(reactor: Any, push: Push) -> int:
    """Push the command and wait for its outcome if requested; return the exit status."""
    talking_ready: defer.Deferred[None] = defer.Deferred()
    talking = talk(reactor, push.link, push.prefix, ready=lambda: once(talking_ready))
    if not push.wait:
        talking.startService()
        try:
            await push.first.wait(reactor, talking_ready)
            await _push(talking, push)
            _print_queued(push)
        finally:
            await talking.stopService()
        return 0
    return await _follow(reactor, push, talking, talking_ready)


async def _follow(
    reactor: Any, push: Push, talking: RedisConnection, talking_ready: "defer.Deferred[None]"
) -> int:
    follower = _Follower(push)
    listening_ready: defer.Deferred[None] = defer.Deferred()

    def subscribed() -> None:
        if listening_ready.called:
            _look_up(talking, push, follower)
        else:
            listening_ready.callback(None)

    listening = listen(reactor, push.link, [_pattern(push)], follower.on_message, ready=subscribed)
    pinging = task.LoopingCall(keep_alive, listening)
    pinging.clock = reactor
    for connection in (talking, listening):
        connection.startService()
    pinging.start(PING_EVERY, now=False)
    try:
        both = defer.gatherResults([talking_ready, listening_ready], consumeErrors=True)
        await push.first.wait(reactor, both.addCallback(lambda _: None))
        await _push(talking, push)
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
        await listening.stopService()
        await talking.stopService()


def _pattern(push: Push) -> str:
    """The channels of the command's events; the device of an IMEI or sub-lock is unknown here."""
    device = push.command.device.lstrip("0")
    may_be_sublock = len(push.command.device) == SUBLOCK_ID
    keys = Keys(glob_escape(push.prefix))
    return keys.channel("command", device if 0 < len(device) <= 12 and not may_be_sublock else "*")


async def _push(talking: RedisConnection, push: Push) -> None:
    try:
        await talking.call("RPUSH", push.keys.commands, to_wire(push.command, push.key, time.time()))
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


def _look_up(talking: RedisConnection, push: Push, follower: _Follower) -> None:
    """Read the state from the record after a reconnect, since events were missed."""

    def found(state: Any) -> None:
        if isinstance(state, bytes):
            follower.missed(state.decode("utf-8", "replace"))

    talking.call("HGET", push.keys.command(push.command.id), "state").addCallbacks(found, lambda _: None)


def _not_taken(follower: _Follower) -> None:
    if not follower.heard:
        notice("no gateway has accepted the command yet; it waits in Redis")


def _status(state: CommandState) -> int:
    if state in _GOOD:
        return 0
    return 1 if state in _BAD else _NOT_KNOWN
