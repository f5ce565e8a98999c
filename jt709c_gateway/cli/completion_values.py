"""Completion of values in a shell. Imported by all subcommands, so it imports little."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: Seconds to wait for Redis, and the number of devices offered, last seen first.
_PATIENCE: Final = 0.5
_OFFERED: Final = 100
_READ: Final = 10_000


def completer(offer: Callable[[click.Context], Iterable[str | tuple[str, str]]]) -> Completer:
    """Make a completer that offers words, with or without a help text, that begin with the typed text.

    An error offers nothing, since a message would disturb the line that is being typed.
    """

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            offered = [(word, None) if isinstance(word, str) else word for word in offer(context)]
        except Exception:
            return []
        return [CompletionItem(word, help=text) for word, text in offered if word.startswith(incomplete)]

    return complete


def _path(kind: str) -> Completer:
    return lambda context, parameter, incomplete: [CompletionItem(incomplete, type=kind)]


files = _path("file")
directories = _path("dir")


@completer
def commands(_: click.Context) -> Iterator[tuple[str, str]]:
    """Complete names and aliases of commands."""
    from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE

    yield from CATALOGUE.items()
    for alias, name in ALIASES.items():
        yield alias, f"The same as {name}."


@completer
def kinds(_: click.Context) -> Iterable[str]:
    """Complete kinds of events."""
    from jt709c_gateway.protocol.events import KINDS

    return KINDS


@completer
def alarms(_: click.Context) -> Iterable[str]:
    """Complete names of alarms."""
    from jt709c_gateway.protocol.alarms import NAMES

    return NAMES


@completer
def params(context: click.Context) -> Iterator[str | tuple[str, str]]:
    """Complete `NAME=` of the parameters of the command, with each value if they are few; no secrets."""
    from jt709c_gateway.cli import command_arguments

    given = [str(text) for text in context.params.get("params") or ()]
    known = command_arguments.known_params(
        str(context.params.get("command")), context.params.get("directory")
    )
    # bash splits words at =.
    if given[-1:] == ["="] and len(given) > 1:
        yield from command_arguments.values(known.get(given[-2], ()))
        return
    used = {text.partition("=")[0] for text in given}
    for name, forms in known.items():
        if name in used or command_arguments.is_secret(name, forms):
            continue
        values = list(command_arguments.values(forms))
        help_text = next((form.description or form.expected() for form in forms), "")
        yield from ((f"{name}={value}", help_text) for value in values or [""])


def devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ids of the last seen devices, if Redis answers soon with the options given so far."""
    try:
        found = _devices(context.params, incomplete)
    except Exception:
        return []
    return [CompletionItem(device) for device in found[:_OFFERED]]


def _devices(given: Mapping[str, Any], incomplete: str) -> list[str]:
    import heapq

    from twisted.internet import defer

    from jt709c_gateway.cli.fleet import Fleet, Part
    from jt709c_gateway.cli.redis_client import redis_link
    from jt709c_gateway.cli.redis_options import RedisOptions
    from jt709c_gateway.cli.runner import run

    link = redis_link(RedisOptions(**{name: given[name] for name in RedisOptions._fields}))
    found: list[str] = []

    async def read(fleet: Fleet) -> None:
        await fleet.open()
        most = _READ // fleet.layout.count

        async def latest(part: Part) -> list[tuple[float, bytes]]:
            flat = await part.call("ZREVRANGE", part.keys.devices, 0, most - 1, "WITHSCORES")
            return [(float(seen), name) for name, seen in zip(flat[::2], flat[1::2], strict=True)]

        in_order = heapq.merge(*await fleet.each(latest), reverse=True)
        found.extend(name.decode("utf-8", "replace") for _, name in in_order)

    async def query(reactor: Any) -> int:
        fleet = Fleet(reactor, link, given["prefix"])
        try:
            await defer.Deferred.fromCoroutine(read(fleet)).addTimeout(_PATIENCE, reactor)
        finally:
            # Not awaited: the next key waits for us.
            defer.ensureDeferred(fleet.close())
        return 0

    run(query, lambda _: None)
    return [name for name in found if name.startswith(incomplete)]
