"""Access to the embedded server: its password file, and the address of a running server."""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.embedded.data_directory import (
    LOOPBACK,
    EmbeddedServerError,
    ValkeyDirectory,
    write_private,
)

PASSWORD_FILE: Final = "redis-password"

#: Random bytes in a generated password.
_STRENGTH: Final = 32
_LONGEST: Final = 4096
_OTHERS: Final = 0o077


class PasswordFile:
    """The file with the embedded server's password in its first line, readable by its owner only.

    The file exists as long as the server has a password. An unusable file raises EmbeddedServerError, one
    line with the path, the problem and the expected state, without any part of the password.
    """

    def __init__(self, data_dir: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(data_dir)) / PASSWORD_FILE

    def read(self) -> str | None:
        """Return the password; None when there is no file."""
        try:
            # Don't wait for a writer if it is a named pipe.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"{error.strerror}; expected a file that this user may read") from None
        try:
            self._check(os.fstat(descriptor))
            password = os.read(descriptor, _LONGEST).partition(b"\n")[0].decode().strip()
        except (OSError, UnicodeDecodeError):
            password = ""
        finally:
            os.close(descriptor)
        if not password:
            raise self._unusable("holds no password in its first line; without the file, one is made")
        return password

    def ensure(self) -> str:
        """Return the password, generated if there is none; only for the holder of the data directory."""
        password = self.read()
        if password is None:
            password = secrets.token_urlsafe(_STRENGTH)
            try:
                write_private(self.path, f"{password}\n")
            except OSError as error:
                raise self._unusable(f"cannot be written: {error.strerror}") from None
        return password

    def remove(self) -> None:
        """Remove the file, since the server has no password."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(f"cannot be removed: {error.strerror}") from None

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._unusable("is no regular file")
        if status.st_uid not in self._owners():
            raise self._unusable(
                f"belongs to user {status.st_uid}; expected a file of user {os.geteuid()}, who is to use it"
            )
        if status.st_mode & _OTHERS:
            raise self._unusable(
                f"is open to others (mode {stat.S_IMODE(status.st_mode):03o}); expected one for its owner "
                f"only: chmod 600, and a new password if somebody may have read it"
            )

    def _owners(self) -> tuple[int, ...]:
        return (os.geteuid(),)

    def _unusable(self, problem: str) -> EmbeddedServerError:
        return EmbeddedServerError(f"the embedded server's password file {self.path}: {problem}")


class _AnyOwnersFile(PasswordFile):
    """The password file for clients: root may use a gateway that runs as another user."""

    def _owners(self) -> tuple[int, ...]:
        mine = super()._owners()
        return mine if mine != (0,) else (0, self.path.parent.stat().st_uid)


def access_rule(password: str) -> str:
    """Return the configuration after ``user``: all rights with the password, none without.

    The configuration contains only the password's SHA-256.
    """
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"default on #{digest} ~* &* +@all"


def running_server(data_dir: str | os.PathLike[str]) -> RedisAddress:
    """Return address and password of the running embedded server of this data directory.

    Raises EmbeddedServerError, one line, when none runs or this user may not use it.
    """
    directory = ValkeyDirectory(data_dir)
    try:
        # If our server does not run, another process may listen on its port: don't send it the password.
        running = directory.server_pid() is not None
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot use {directory.path}: {error.strerror}; expected to be the user that the gateway runs as"
        ) from None
    port = directory.last_port()
    if not running or port is None:
        raise EmbeddedServerError(
            f"no embedded server runs on {directory.path.parent}; expected the --data-dir of a gateway that "
            "runs with --redis embedded"
        )
    return RedisAddress(host=LOOPBACK, port=port, password=_AnyOwnersFile(data_dir).read())
