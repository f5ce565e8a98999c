"""Shows events as they are published."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import define, field, frozen
from twisted.internet import defer, task

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.device_lookup import ResolvedDevice, resolve
from jt709c_gateway.cli.event_streams import follow_streams
from jt709c_gateway.cli.fleet import Fleet
from jt709c_gateway.cli.labels import devices_in, readable_labels
from jt709c_gateway.cli.redis_client import Link, subscribe
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.stream_reader import StreamReader
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.labels import Label
from jt709c_gateway.redis.pubsub import PING_EVERY, glob_escape, keep_alive

#: Number of remembered event ids, to suppress repetitions.
_REMEMBERED: Final = 20_000


#: Maximum channels named at the start; of more, only the number is shown.
_NAMED: Final = 4


@frozen
class EventFilter:
    """A filter: no `kinds` means all, no `names` all devices. `since` is in epoch seconds."""

    prefix: str
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    since: float | None = None
    as_json: bool = False
    local: bool = False
    groups: tuple[str, ...] = ()


def patterns(prefix: str, kinds: Sequence[str], devices: Sequence[str]) -> list[str]:
    """Return the channels or patterns for these kinds (none: all) and devices (none: all)."""
    keys = Keys(glob_escape(prefix))
    if not devices:
        return [keys.channel(kind, "*") for kind in kinds or ("*",)]
    # One channel per kind, not a pattern: an ACL can't list a pattern per device.
    return [Keys(prefix).channel(kind, device) for device in devices for kind in kinds or KINDS]


@define
class Display:
    """Prints matching events, each once."""

    wanted: EventFilter
    named: Sequence[ResolvedDevice] = ()
    #: How locks were called when this began.
    labels: Mapping[str, Label] = {}
    #: The devices to show, None for all.
    group: frozenset[str] | None = None
    _shown: OrderedDict[str, None] = field(factory=OrderedDict, init=False, repr=False)
    _out: Any = field(factory=console, init=False, repr=False)

    def show(self, source: str, payload: bytes) -> None:
        """Process the JSON of an event; `source` names its origin in errors."""
        try:
            event = msgspec.json.decode(payload, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            notice(f"{plain(source)}: received a message that is not an event")
            return
        if not self._fits(event) or self._is_known(event.get("id")):
            return
        if self.wanted.as_json:
            self._out.out(escape_text(payload.decode("utf-8", "replace")), highlight=False)
        else:
            label = self.labels.get(str(event.get("device")))
            name = str(label.name) if label is not None and label.name else None
            print_line(self._out, event_format.line(event, self.wanted.local, name), event_format.INDENT)

    def _fits(self, event: dict[str, Any]) -> bool:
        if self.wanted.kinds and event.get("kind") not in self.wanted.kinds:
            return False
        if self.group is not None and event.get("device") not in self.group:
            return False
        data = event.get("data")
        behind = data.get("peripheral") if isinstance(data, dict) else None
        return not self.named or any(
            one.device == event.get("device") and one.sublock in (None, behind) for one in self.named
        )

    def _is_known(self, event_id: Any) -> bool:
        """Return whether the event has been shown; stream and channel may both have it."""
        if not isinstance(event_id, str):
            return False
        if event_id in self._shown:
            return True
        self._shown[event_id] = None
        if len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
        return False


async def follow(reactor: Any, link: Link, wanted: EventFilter) -> int:
    """Print events until cancelled, or until standard output is closed."""
    fleet = Fleet(reactor, link, wanted.prefix, stay=True, patient=True)
    try:
        await fleet.open()
        named = [await resolve(fleet, name) for name in wanted.names]
        labels = {} if wanted.as_json else await readable_labels(fleet)
        display = Display(wanted, named, labels, await devices_in(fleet, wanted.groups))
        if fleet.layout.count > 1:
            await follow_streams(fleet, wanted.since, display.show)
        else:
            part = await fleet.use(0)
            await _follow(reactor, link, part.server.connection, display, defer.Deferred())
        return 0
    finally:
        await fleet.close()


async def _follow(
    reactor: Any, link: Link, connection: RedisConnection, display: Display, ended: "defer.Deferred[int]"
) -> None:
    wanted = display.wanted
    channels = patterns(wanted.prefix, wanted.kinds, list({one.device: None for one in display.named}))

    def guarded(step: Callable[..., None], *arguments: Any) -> None:
        """Call a function; an error such as a broken pipe ends the watch."""
        try:
            step(*arguments)
        except Exception:
            if not ended.called:
                ended.errback()

    def show(source: str, payload: bytes) -> None:
        guarded(display.show, source, payload)

    catching_up = StreamReader(reactor, connection, Keys(wanted.prefix).events, show, wanted.since)

    def subscribed() -> None:
        shown = ", ".join(channels) if len(channels) <= _NAMED else f"{len(channels)} channels"
        notice(f"watching {shown} at {link.address.masked()}")
        catching_up.begin()

    def tick() -> None:
        keep_alive(subscription)
        catching_up.note_position()

    subscription = subscribe(reactor, link, channels, catching_up.live, ready=subscribed)
    pinging = task.LoopingCall(tick)
    pinging.clock = reactor
    subscription.startService()
    # The function does not raise, so this Deferred fires only when the loop stops.
    pinging.start(PING_EVERY, now=False)
    try:
        await ended
    finally:
        pinging.stop()
        catching_up.stop()
        await subscription.stopService()
