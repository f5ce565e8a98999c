"""Signed commands: what is signed, and with what (docs/commands.rst, "Signed commands").

What is signed is a text, byte for byte: the JSON of the command as its writer wrote it. So nobody has to
agree on how JSON is written, and nothing of a command can be left out by mistake.
"""

from __future__ import annotations

import hmac
from typing import Final

import attrs

MAC_DIGITS: Final = 64


@attrs.frozen
class Signature:
    """Whose a command is said to be, and what was signed.

    ``key`` is a key's id, ``mac`` is in hex, ``text`` is the command's JSON. ``device`` and ``command`` are
    as in the text, aliases resolved; the command itself may have become another, at the master of a sub-lock.
    ``sublock_parameter`` is then the parameter that names the sub-lock.
    """

    key: str
    mac: str = attrs.field(repr=False)
    text: str = attrs.field(repr=False)
    device: str
    command: str
    sublock_parameter: str | None = None

    def matches(self, secret: bytes) -> bool:
        """Whether it was made with ``secret``; takes the same time whatever is wrong."""
        return hmac.compare_digest(mac(secret, self.text).encode(), self.mac.lower().encode())


def mac(secret: bytes, text: str) -> str:
    """HMAC-SHA256 (RFC 2104) of the text's UTF-8, as 64 lower-case hex digits."""
    return hmac.digest(secret, text.encode(), "sha256").hex()
