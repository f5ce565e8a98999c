r"""Escapes all control characters in JSON.

JSON allows DEL, the C1 controls (U+0080 to U+009F) and the line separators U+2028 and U+2029 in text, and a
sentence may contain any byte. Terminals interpret some of them, and others end a line. Written as ``\u0085``
they mean the same to every JSON parser.
"""

import re
from typing import Final

#: Each begins with a byte that is looked for at once; one pattern for all would be tried at every byte.
_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")
_SEPARATORS: Final = re.compile(rb"\xe2\x80[\xa8\xa9]")
_IN_TEXT: Final = re.compile("[\x7f-\x9f\u2028\u2029]")


def escape_bytes(data: bytes) -> bytes:
    """Escape those characters in JSON in UTF-8."""
    # Asked for a number, `in` is one call of memchr.
    if data.isascii() and 0x7F not in data:
        return data
    data = _C1.sub(_escaped, data.replace(b"\x7f", b"\\u007f"))
    return _SEPARATORS.sub(_escaped, data)


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def escape_text(text: str) -> str:
    """Escape those characters in JSON text."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
