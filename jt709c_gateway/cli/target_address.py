"""Parses and resolves the address of the gateway that `simulate` and `replay` connect to."""

import re
import socket

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.simulator.connections import Target

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]]+)):([0-9]{1,5})")


def read_target(transport: str, text: str, option: str | None = None) -> Target:
    """Parse `HOST:PORT` and resolve the name, once for all locks; raise UserError.

    `option` is the name for messages, `--<transport>` by default.
    """
    option = option or f"--{transport}"
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise UserError(f"{option}: {text!r} is not HOST:PORT, such as 127.0.0.1:8888 or [::1]:8888")
    host, port = found[1] or found[2], int(found[3])
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    try:
        addresses = socket.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise UserError(f"{option}: {host!r} can't be looked up: {reason}") from None
    # IPv4 first, on which most gateways listen.
    addresses.sort(key=lambda address: address[0] != socket.AF_INET)
    return Target(transport, str(addresses[0][4][0]), port)
