"""`jt709c forget`: deletes the state of devices."""

import signal

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import check_devices, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys


@click.command()
@click.argument(
    "devices",
    nargs=-1,
    required=True,
    metavar="DEVICE...",
    callback=check_devices,
    shell_complete=completion_values.devices,
)
@redis_options
@click.option("--history", "with_history", is_flag=True, help="Delete the audit trails too.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
def forget(devices: tuple[str, ...], redis: RedisOptions, prefix: str, with_history: bool, yes: bool) -> None:
    """Delete the state of each DEVICE from Redis, for locks that are out of service: last known state, track,
    IMEI and sub-locks. The audit trail stays unless --history is given.

    A lock that is online is not forgotten, and one that reports again is known again. DEVICE is a device id.
    This needs the rights of jt709c-operator, or with --history of a user that may delete audit trails.

    \b
    Examples:
        jt709c forget 794308010679
        jt709c forget 794308010679 794308010680 --yes
    """
    keys = Keys(prefix)

    async def question(connection: RedisConnection) -> None:
        named = [canonical(name) for name in devices]
        for device in named:
            await _check_one(connection, keys, device, with_history)
        if not yes:
            what = "state and audit trail" if with_history else "state"
            _confirm(f"Delete the {what} of {', '.join(named)}?")
        for device in named:
            await _forget_one(connection, keys, device, with_history)
            click.echo(f"{device} is forgotten" + ("" if with_history else "; its audit trail stays"))

    query(redis, prefix, "delete the state of devices", question, "jt709c-operator")


def _confirm(question: str) -> None:
    """Ask; raise click.Abort for no or an interrupt, which ends the process as before the reactor ran."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        click.confirm(question, abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


async def _check_one(connection: RedisConnection, keys: Keys, device: str, with_history: bool) -> None:
    """Raise UserError if a device is online or unknown."""
    if await connection.call("EXISTS", keys.session(device)):
        raise UserError(f"{device} is online; only a lock that is offline can be forgotten")
    history = [keys.history(device)] if with_history else []
    known = await connection.call("EXISTS", keys.device(device), *history)
    if not known and await connection.call("ZSCORE", keys.devices, device) is None:
        raise UserError(f"{device}: such a device is unknown with the prefix {keys.prefix}")


async def _forget_one(connection: RedisConnection, keys: Keys, device: str, with_history: bool) -> None:
    """Delete the keys of a device; raise UserError if it has come online or is unknown."""
    await _check_one(connection, keys, device, with_history)
    history = [keys.history(device)] if with_history else []
    imei = await connection.call("HGET", keys.device(device), "imei")
    holder = None if imei is None else await connection.call("HGET", keys.imei, imei)
    sublocks = await connection.call("ZRANGE", keys.peripherals(device), 0, -1)
    masters = [await connection.call("HGET", keys.peripheral(one.decode()), "device") for one in sublocks]
    own = [
        keys.peripheral(one.decode())
        for one, master in zip(sublocks, masters, strict=True)
        if master == device.encode()
    ]
    state = [keys.device(device), keys.recent(device), keys.track(device), keys.peripherals(device)]
    await connection.call("DEL", *state, *own, *history)
    if holder == device.encode():
        await connection.call("HDEL", keys.imei, imei)
    if with_history:
        await connection.call("ZREM", keys.histories, device)
    # Last, so that a device whose deletion was interrupted is still listed.
    await connection.call("ZREM", keys.devices, device)
