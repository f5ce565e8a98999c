"""Pushes a command, and follows it to its outcome.

The states come over pub/sub, or, with several partitions, from the audit trail of the device: its partition
alone has all of them, wherever events are published.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import txredisapi
from twisted.internet import defer, task

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.command_push import (
    Push,
    is_unheard,
    part_of,
    print_queued,
    push_command,
    unheard,
    use_name,
)
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.redis_client import FirstConnection, subscribe
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.model import ENDED, CommandState
from jt709c_gateway.protocol.device_id import TERMINAL_DIGITS, canonical, may_be_sublock
from jt709c_gateway.protocol.events import KIND_COMMAND
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import PING_EVERY, glob_escape, keep_alive

_GOOD: Final = frozenset([CommandState.DONE, CommandState.CONFIRMED])


_BAD: Final = frozenset(
    [CommandState.REJECTED, CommandState.FAILED, CommandState.INVALID, CommandState.CANCELLED]
)


_NOT_KNOWN: Final = 3


#: Seconds within which a gateway should have accepted the command.
_TAKEN_WITHIN: Final = 5.0


#: Seconds between two looks into an audit trail, and after a lost connection.
_LOOK_EVERY: Final = 0.2
_RETRY: Final = 1.0


class _Follower:
    """Prints the states of one command; `ended` fires with the final one."""

    def __init__(self, push: Push) -> None:
        self.ended: defer.Deferred[CommandState] = defer.Deferred()
        self.pushed = False
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
            self.failed()

    def failed(self, failure: Any = None) -> None:
        """End the waiting with an error, by default the one being handled."""
        if not self.ended.called and (failure is None or not failure.check(defer.CancelledError)):
            self.ended.errback(failure)

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
                f"{unheard(self._push)}; the command waits for it for {self._push.command.ttl:.0f} s (--ttl)"
            )
        if state in ENDED and not self.ended.called:
            self.ended.callback(CommandState(state))


async def queue(reactor: Any, push: Push) -> int:
    """Push the command and wait for its outcome if requested; return the exit status."""
    fleet = Fleet(reactor, push.link, push.prefix, stay=push.wait)
    try:
        await fleet.open()
        await use_name(fleet, push)
        if push.wait:
            several = fleet.layout.count > 1
            return await (_follow_trail if several else _follow_channel)(reactor, fleet, push)
        if await is_unheard(fleet, push):
            notice(f"{unheard(push)}; a valid command waits for it for {push.command.ttl:.0f} s (--ttl)")
        await push_command(fleet, push)
        print_queued(fleet, push)
        return 0
    finally:
        await fleet.close()


async def _follow_channel(reactor: Any, fleet: Fleet, push: Push) -> int:
    """Follow the command on the channel of the device's `command` events."""
    follower = _Follower(push)
    part = await fleet.use(0)

    def subscribed() -> None:
        if follower.pushed:
            _look_up(part, push, follower)

    first = FirstConnection(push.link.masked())
    subscription = subscribe(
        reactor, push.link, [_pattern(push)], follower.on_message, ready=subscribed, log=first
    )
    pinging = task.LoopingCall(keep_alive, subscription)
    pinging.clock = reactor
    subscription.startService()
    pinging.start(PING_EVERY, now=False)
    try:
        await first.wait(reactor)
        return await _push_and_wait(reactor, fleet, push, follower)
    finally:
        pinging.stop()
        await subscription.stopService()


async def _follow_trail(reactor: Any, fleet: Fleet, push: Push) -> int:
    """Follow the command in the audit trail of its device."""
    follower = _Follower(push)
    looking = defer.Deferred.fromCoroutine(_Trail(fleet, push, follower).follow(reactor))
    looking.addErrback(follower.failed)
    try:
        return await _push_and_wait(reactor, fleet, push, follower)
    finally:
        looking.cancel()


async def _push_and_wait(reactor: Any, fleet: Fleet, push: Push, follower: _Follower) -> int:
    """Push the command, and wait for its end; return the exit status."""
    follower.unheard = await is_unheard(fleet, push)
    follower.pushed = True
    lonely = reactor.callLater(_TAKEN_WITHIN, _not_taken, follower)
    try:
        await push_command(fleet, push)
        return _status(await follower.ended.addTimeout(push.patience, reactor))
    except defer.CancelledError:
        if push.sent:
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


def _pattern(push: Push) -> str:
    """Return the channels of the command's events; the device of an IMEI or sub-lock is unknown here."""
    name = push.command.device
    device = canonical(name)
    is_device = len(device) <= TERMINAL_DIGITS and not may_be_sublock(name)
    return Keys(glob_escape(push.prefix)).channel("command", device if is_device else "*")


def _look_up(part: Part, push: Push, follower: _Follower) -> None:
    """Read the state from the record after a reconnect, since events were missed."""

    def found(state: Any) -> None:
        if isinstance(state, bytes):
            follower.missed(state.decode("utf-8", "replace"))

    part.call("HGET", part.keys.command(push.command.id), "state").addCallbacks(found, lambda _: None)


class _Trail:
    """Reads the audit trail of a command's device again and again."""

    def __init__(self, fleet: Fleet, push: Push, follower: _Follower) -> None:
        self._fleet = fleet
        self._push = push
        self._follower = follower
        self._device: str | None = None
        self._position = "-"
        #: The state in the record at the last look.
        self._recorded: bytes | None = None

    async def follow(self, reactor: Any) -> None:
        """Look until the command has ended."""
        while not self._follower.ended.called:
            pause = _LOOK_EVERY
            try:
                await self._look()
            except (txredisapi.ConnectionError, UserError):
                # Its partition is away, which the connection tells.
                pause = _RETRY
            await task.deferLater(reactor, pause, lambda: None)

    async def _look(self) -> None:
        # The lock of an IMEI may report only now.
        part, device = await part_of(self._fleet, self._push.command.device)
        if device != self._device:
            self._device, self._position, self._recorded = device, "-", None
        entries, state = await part.pipeline(
            [
                ("XRANGE", part.keys.history(device), self._position, "+"),
                ("HGET", part.keys.command(self._push.command.id), "state"),
            ]
        )
        for reply in (entries, state):
            if isinstance(reply, txredisapi.ConnectionError):
                raise reply
        for entry, fields in [] if isinstance(entries, Exception) else entries:
            self._position = f"({entry.decode()}"
            texts = dict(zip(fields[::2], fields[1::2], strict=False))
            if texts.get(b"kind") == KIND_COMMAND.encode():
                self._follower.on_message(self._position, texts.get(b"event", b""))
        # Without the right to read the trail, or when that is capped, the record has the state.
        if isinstance(state, bytes) and state == self._recorded:
            self._follower.missed(state.decode("utf-8", "replace"))
        self._recorded = state if isinstance(state, bytes) else None


def _not_taken(follower: _Follower) -> None:
    if not follower.heard:
        notice("no gateway has accepted the command yet; it waits in Redis")


def _status(state: CommandState) -> int:
    if state in _GOOD:
        return 0
    return 1 if state in _BAD else _NOT_KNOWN
