"""`jt709c doctor`: goes through what can keep a lock from appearing."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.diagnosis import Facts, diagnose, diagnose_without_redis
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import check_device, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions


@click.command()
@click.argument("device", required=False, callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--tcp",
    metavar="HOST:PORT",
    default="127.0.0.1:8888",
    show_default=True,
    help="Where locks connect to.",
)
@click.option(
    "--http",
    metavar="URL",
    default="http://127.0.0.1:8089",
    show_default=True,
    help="URL of the gateway's --http, for its /metrics.",
)
def doctor(device: str | None, redis: RedisOptions, prefix: str, tcp: str, http: str) -> None:
    """Go through what can keep a lock from appearing: whether a gateway lives and listens, connections that
    bring no frame, unreadable input, locks that are not admitted, limits, partitions that are away or
    of another number, and what is known of DEVICE.

    The exit status is 1 if there is something to do.

    \b
    Examples:
        jt709c doctor
        jt709c doctor 794308010679 --tcp gateway.example.net:8888
    """
    from jt709c_gateway.cli.checkup import (
        check_url,
        is_connected,
        print_findings,
        read_facts,
        read_metrics,
        try_to_connect,
    )
    from jt709c_gateway.cli.fleet import Fleet
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.cli.target_address import read_target

    target = read_target("tcp", tcp)
    check_url(http)
    found = Facts(
        prefix=prefix,
        address=tcp,
        refused=try_to_connect(target.host, target.port),
        gateways=(),
        other_prefixes=(),
        metrics=read_metrics(http),
        connected=is_connected(http),
        malformed={},
        peers=(),
        devices=0,
    )

    async def question(fleet: Fleet) -> Facts:
        return await read_facts(fleet, device, found)

    try:
        findings = diagnose(query(redis, prefix, "read the gateway's keys", question, strict=False))
    except UserError:
        print_findings(diagnose_without_redis(found))
        raise
    print_findings(findings)
    if any(finding.is_problem for finding in findings):
        sys.exit(1)
