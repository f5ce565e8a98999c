"""Deletes the state of a device."""

import signal

import click

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet
from jt709c_gateway.cli.labels import labels_in
from jt709c_gateway.redis.labels import Label


def confirm(question: str) -> None:
    """Ask; raise click.Abort for no or an interrupt, which ends the process as before the reactor ran."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        click.confirm(question, abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


async def check_removable(fleet: Fleet, device: str, with_history: bool) -> None:
    """Raise UserError if a device is online or unknown."""
    part = await fleet.of(device)
    keys = part.keys
    if await part.call("EXISTS", keys.session(device)):
        raise UserError(f"{device} is online; only a lock that is offline can be forgotten")
    history = [keys.history(device)] if with_history else []
    known = await part.call("EXISTS", keys.device(device), *history)
    if not known and await part.call("ZSCORE", keys.devices, device) is None:
        raise UserError(f"{device}: such a device is unknown with the prefix {fleet.prefix}")


async def remove_device(fleet: Fleet, device: str, with_history: bool) -> Label | None:
    """Delete the keys of a device; raise UserError if it has come online or is unknown.

    Returns its label, which has gone, too.
    """
    await check_removable(fleet, device, with_history)
    part = await fleet.of(device)
    keys = part.keys
    history = [keys.history(device)] if with_history else []
    # First, since a user may have no right to it.
    [label] = await labels_in(part).read([device])
    await labels_in(part).remove(device)
    imei = await part.call("HGET", keys.device(device), "imei")
    # An IMEI is in a partition of its own.
    other = None if imei is None else await fleet.of(imei.decode())
    holder = None if other is None else await other.call("HGET", other.keys.imei, imei)
    sublocks = await part.call("ZRANGE", keys.peripherals(device), 0, -1)
    masters = [await part.call("HGET", keys.peripheral(one.decode()), "device") for one in sublocks]
    own = [
        keys.peripheral(one.decode())
        for one, master in zip(sublocks, masters, strict=True)
        if master == device.encode()
    ]
    state = [keys.device(device), keys.recent(device), keys.track(device), keys.peripherals(device)]
    await part.call("DEL", *state, *own, *history)
    if other is not None and holder == device.encode():
        await other.call("HDEL", other.keys.imei, imei)
    if with_history:
        await part.call("ZREM", keys.histories, device)
    # Last, so that a device whose deletion was interrupted is still listed.
    await part.call("ZREM", keys.devices, device)
    return label
