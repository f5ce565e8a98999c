"""`jt709c forget`: deletes the state of devices."""

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import check_device_ids, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.protocol.device_id import canonical


@click.command()
@click.argument(
    "devices",
    nargs=-1,
    required=True,
    metavar="DEVICE...",
    callback=check_device_ids,
    shell_complete=completion_values.devices,
)
@redis_options
@click.option("--history", "with_history", is_flag=True, help="Delete the audit trails too.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
def forget(devices: tuple[str, ...], redis: RedisOptions, prefix: str, with_history: bool, yes: bool) -> None:
    """Delete the state of each DEVICE from Redis, for locks that are out of service: last known state, track,
    IMEI, sub-locks and label. The audit trail stays unless --history is given.

    A lock that is online is not forgotten, and one that reports again is known again. DEVICE is a device id.
    This needs the rights of jt709c-operator, or with --history of a user that may delete audit trails.

    \b
    Examples:
        jt709c forget 794308010679
        jt709c forget 794308010679 794308010680 --yes
    """
    from jt709c_gateway.cli.device_removal import check_removable, confirm, remove_device
    from jt709c_gateway.cli.fleet import Fleet
    from jt709c_gateway.cli.labels import full_name
    from jt709c_gateway.cli.query import query

    async def question(fleet: Fleet) -> None:
        named = [canonical(name) for name in devices]
        for device in named:
            await check_removable(fleet, device, with_history)
        if not yes:
            what = "state and audit trail" if with_history else "state"
            confirm(f"Delete the {what} of {', '.join(named)}?")
        for device in named:
            label = await remove_device(fleet, device, with_history)
            called = "" if label is None else f", and its label {full_name(device, label)}"
            click.echo(f"{device} is forgotten{called}" + ("" if with_history else "; its audit trail stays"))

    query(redis, prefix, "delete the state of devices", question, "jt709c-operator")
