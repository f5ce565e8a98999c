"""Deletes the state of a device."""

import signal

import click

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys


def confirm(question: str) -> None:
    """Ask; raise click.Abort for no or an interrupt, which ends the process as before the reactor ran."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        click.confirm(question, abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


async def check_removable(connection: RedisConnection, keys: Keys, device: str, with_history: bool) -> None:
    """Raise UserError if a device is online or unknown."""
    if await connection.call("EXISTS", keys.session(device)):
        raise UserError(f"{device} is online; only a lock that is offline can be forgotten")
    history = [keys.history(device)] if with_history else []
    known = await connection.call("EXISTS", keys.device(device), *history)
    if not known and await connection.call("ZSCORE", keys.devices, device) is None:
        raise UserError(f"{device}: such a device is unknown with the prefix {keys.prefix}")


async def remove_device(connection: RedisConnection, keys: Keys, device: str, with_history: bool) -> None:
    """Delete the keys of a device; raise UserError if it has come online or is unknown."""
    await check_removable(connection, keys, device, with_history)
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
