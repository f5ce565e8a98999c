"""Showing events from Redis, for `jt709c watch`."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet import defer, task

from jt709c_gateway.cli import gist
from jt709c_gateway.cli.output import console, plain
from jt709c_gateway.cli.redis_link import Link, listen
from jt709c_gateway.cli.running import notice
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.listening import PING_EVERY, glob_escape, keep_alive


def patterns(prefix: str, kinds: Sequence[str], device: str | None) -> list[str]:
    """Channels, or patterns of them, for these kinds (none: all) and this device (None: all)."""
    keys = Keys(glob_escape(prefix))
    if device is None:
        return [keys.channel(kind, "*") for kind in kinds or ("*",)]
    # Channels of all kinds and no pattern: no ACL could have one for each device.
    return [keys.channel(kind, device.lstrip("0") or "0") for kind in kinds or KINDS]


def printer(as_json: bool) -> Callable[[str, bytes], None]:
    """A function that prints one published message."""
    out = console()

    def show(channel: str, payload: bytes) -> None:
        if as_json:
            out.out(payload.decode("utf-8", "replace"), highlight=False)
            return
        try:
            event = msgspec.json.decode(payload, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            notice(f"on {plain(channel)} came something that is no event")
            return
        out.print(gist.line(event), soft_wrap=True)

    return show


async def watch(reactor: Any, link: Link, wanted: Sequence[str], as_json: bool) -> int:
    """Print events until cancelled, or until nobody reads them any more."""
    ended: defer.Deferred[int] = defer.Deferred()
    show = printer(as_json)

    def on_message(channel: str, payload: bytes) -> None:
        try:
            show(channel, payload)
        except Exception:
            if not ended.called:
                ended.errback()

    def ready() -> None:
        notice(f"watching {', '.join(wanted)} at {link.address.masked()}")

    connection = listen(reactor, link, wanted, on_message, ready=ready)
    pinging = task.LoopingCall(keep_alive, connection)
    pinging.clock = reactor
    connection.startService()
    # keep_alive does not raise, so this Deferred fires only when the loop is stopped.
    pinging.start(PING_EVERY, now=False)
    try:
        return await ended
    finally:
        pinging.stop()
        await connection.stopService()
