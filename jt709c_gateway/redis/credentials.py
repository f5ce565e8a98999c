"""The password for Redis: the name of its variable, and the file that has it."""

from pathlib import Path
from typing import Final

PASSWORD_VARIABLE: Final = "JT709C_REDIS_PASSWORD"


def read_password(path: Path) -> str:
    """Read the password in the first line of a file; the ValueError shows no part of it."""
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        line = ""
    if not line:
        raise ValueError(f"{str(path)!r}: expected a text file with a password in its first line")
    return line
