"""The URL under which people open the status page."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.protocols.tls import TLSMemoryBIOFactory


def page_url(port: Any, names: Sequence[str] = ()) -> str:
    """Return the URL of a listening port: by the first of `--web-host`, else by its address.

    A port on all addresses is shown with that of loopback. A port that isn't TCP is shown by its path.
    """
    address = port.getHost()
    if not hasattr(address, "port"):
        return f"unix:{getattr(address, 'name', address)}"
    scheme = "https" if isinstance(port.factory, TLSMemoryBIOFactory) else "http"
    host = names[0] if names else _reachable(address.host)
    return f"{scheme}://{host}:{address.port}/"


def _reachable(host: str) -> str:
    address = ip_address(host.partition("%")[0])
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
