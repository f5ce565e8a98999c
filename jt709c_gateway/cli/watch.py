"""`jt709c watch`: events as they are published."""

import sys

import click

from jt709c_gateway.cli.common import RedisOptions, UserError, check_device, redis_options


@click.command()
@redis_options
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only events of this kind; repeatable.")
@click.option("--device", callback=check_device, metavar="ID", help="Only events of this device.")
@click.option("--json", "as_json", is_flag=True, help="Print the events' JSON as published.")
def watch(
    redis: RedisOptions,
    prefix: str,
    kinds: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Show events as the gateways publish them, one line each, until interrupted."""
    from jt709c_gateway.cli import watching
    from jt709c_gateway.cli.redis_link import reach
    from jt709c_gateway.cli.running import run
    from jt709c_gateway.protocol.events import KINDS

    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kind: {kind!r} is no kind of event; expected one of {', '.join(KINDS)}")
    link = reach(redis)
    patterns = watching.patterns(prefix, kinds, device)
    sys.exit(run(lambda reactor: watching.watch(reactor, link, patterns, as_json)))
