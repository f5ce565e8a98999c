"""The signature of a command (docs/commands.rst, "Signed commands").

The signature covers the JSON text of the command byte for byte as its sender wrote it, so that no canonical
form of JSON is needed and no field can be left out by mistake.
"""

from __future__ import annotations

import hmac
from typing import Final

import attrs

MAC_DIGITS: Final = 64


@attrs.frozen
class Signature:
    """The claimed key, the MAC and the signed text of a command.

    ``key`` is the id of a key, ``mac`` is in hex, ``text`` is the JSON of the command. ``device`` and
    ``command`` are those of the text, aliases resolved. A command for a sub-lock is redirected to its master;
    ``sublock_parameter`` is then the parameter that names the sub-lock.
    """

    key: str
    mac: str = attrs.field(repr=False)
    text: str = attrs.field(repr=False)
    device: str
    command: str
    sublock_parameter: str | None = None

    def matches(self, secret: bytes) -> bool:
        """Verify the MAC with ``secret`` in constant time."""
        return hmac.compare_digest(mac(secret, self.text).encode(), self.mac.lower().encode())


def mac(secret: bytes, text: str) -> str:
    """Compute the HMAC-SHA256 (RFC 2104) of the UTF-8 text, as 64 lower-case hex digits."""
    return hmac.digest(secret, text.encode(), "sha256").hex()
