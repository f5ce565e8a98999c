"""Recognises the lines of Twisted's log about its ports; the gateway logs its own."""

import re
from typing import Final

_NAMESPACES: Final = ("log_legacy", "twisted.")
_LINES: Final = re.compile(r".* starting on \S+|\(\w+ Port \S+ Closed\)|Main loop terminated\.")


def is_port_line(namespace: str, text: str) -> bool:
    """Return whether an event with this namespace and text is a line of Twisted's about a port or its end."""
    return namespace.startswith(_NAMESPACES) and _LINES.fullmatch(text) is not None
