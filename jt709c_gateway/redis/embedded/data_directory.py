"""The data directory of the embedded server: lock, configuration, log and port."""

import fcntl
import os
import re
import shutil
import socket
import struct
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
DEFAULT_DATA_DIR = Path("jt709c-data")
"""The directory of a gateway that is started without --data-dir."""
LOG_LIMIT = 10 * 1024 * 1024
"""Size of the log in bytes above which it is renamed."""

#: Size of the append-only file in bytes at which it is rewritten, which delays answers by about 0.1 s: a
#: share of the free disk space, within bounds. 2 GiB are 100 s of 10,000 reports a second, and take 10 s to
#: load.
_CHANGES_SHARE = 4
_CHANGES_LEAST, _CHANGES_MOST = 64 << 20, 2 << 30

# struct flock in C: macOS and the BSDs begin with the offsets, Linux with the type.
_FLOCK = "hhqqi4x" if sys.platform == "linux" else "qqihh"


def port_problem(port: int) -> str | None:
    """Return the system's error for listening on a loopback port; None if the port is free."""
    with socket.socket() as probe:
        # The server sets it, too; without it, connections in TIME_WAIT would block its own last port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.strerror
    return None


class EmbeddedServerError(Exception):
    """The embedded server can't be started or used; the message has one line for the operator."""


class ValkeyDirectory:
    """``<data_dir>/valkey``, created when needed, readable by its owner only."""

    def __init__(self, data_dir: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(data_dir)) / "valkey"
        self.config_file = self.path / "valkey.conf"
        self.log_file = self.path / "valkey.log"
        self.server_lock = self.path / "server.lock"
        self._gateway_lock = self.path / "gateway.lock"
        self._port_file = self.path / "port"
        self._held: int | None = None

    def claim(self) -> None:
        """Lock the directory until `release` or the end of this process.

        Raises EmbeddedServerError when it can't be created, or another gateway (its pid is named) has it.
        """
        if self._held is not None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(self._gateway_lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedServerError(f"cannot use {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(held, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(held)
            raise EmbeddedServerError(
                f"the data directory {self.path} is in use by the gateway with pid {holder}"
            ) from None
        self._held = held
        try:
            os.truncate(held, 0)
            os.write(held, b"%d\n" % os.getpid())
        except OSError as error:
            self.release()
            raise EmbeddedServerError(f"cannot write in {self.path}: {error.strerror}") from None

    def release(self) -> None:
        """Unlock the directory."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def server_pid(self) -> int | None:
        """Return the pid of the server (or its launcher) on this directory, None if there is none.

        The kernel names the holder of the lock. The result is 0 when the holder is not visible or not
        verifiably ours; it must not be ended then.
        """
        try:
            lock = os.open(self.server_lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            asked = _pack_flock(fcntl.F_WRLCK, 0)
            kind, pid = _unpack_flock(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
        finally:
            os.close(lock)
        if kind == fcntl.F_UNLCK:
            return None
        return pid if pid > 0 and self._works_here(pid) else 0

    def _works_here(self, pid: int) -> bool:
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self.path)
        except OSError:
            # There is no /proc, or the process has just ended: the lock is sufficient.
            return True

    def choose_port(self, wanted: int | None) -> int:
        """Return a free loopback port: `wanted`, or the last one if it is free, or any.

        Raises EmbeddedServerError when `wanted` is taken.
        """
        if wanted is not None:
            problem = port_problem(wanted)
            if problem is None:
                return wanted
            raise EmbeddedServerError(
                f"port {wanted} on {LOOPBACK} can't be used ({problem}); choose another with embedded:PORT"
            )
        last = self.last_port()
        if last is not None and port_problem(last) is None:
            return last
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        return port

    def last_port(self) -> int | None:
        """Return the port of the current or last server; None if there was none."""
        try:
            port = int(self._port_file.read_text())
        except (OSError, ValueError):
            return None
        return port if 0 < port < 65536 else None

    def write_config(self, port: int, access: str | None = None) -> None:
        """Write the server's configuration, and store the port.

        `access` is the ACL rule of the default user; without it, every client has all rights.
        """
        path = str(self.path)
        if any(ord(character) < 32 for character in path):
            raise EmbeddedServerError(f"the data directory {path!r} has a control character in its name")
        settings = _settings(self.path, self.log_file, port)
        if access is not None:
            settings["user"] = access
        lines = [f"{name} {value}" for name, value in settings.items()]
        write_private(self.config_file, "\n".join(lines) + "\n")
        write_private(self._port_file, f"{port}\n")

    def tidy(self) -> None:
        """Bound the log, and remove temporary files of an interrupted rewrite of the append-only file.

        Call it only while no server runs on the directory.
        """
        self.bound_log()
        for leftover in [*self.path.glob("temp-*.aof"), *self.path.glob("appendonlydir/temp-*.aof")]:
            leftover.unlink(missing_ok=True)

    def bound_log(self) -> None:
        """Rename a log above LOG_LIMIT bytes to ``valkey.log.1``; the server opens its log for each line."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.replace(self.log_file.with_name("valkey.log.1"))

    def open_log(self) -> int:
        """Open the log for appending, for output before the server opens it by itself."""
        return os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def refusal_of_newer_data(self, since: int = 0) -> str | None:
        """Return an explanation if the server can't read data of a newer version, from the log after offset
        `since`.

        The server's own message reads like damaged data and suggests a repair, which would lose data.
        """
        found = re.search(
            r"Can't handle RDB format version (\d+)|(?i:unknown command) '([^'\n]{1,40})", self._log(since)
        )
        if found is None:
            return None
        what = f"format {found[1]}" if found[1] else f"command {found[2]}"
        return (
            f"the data in {self.path} are of a newer version{self._written_by()} than this server can read "
            f"({what}). They are whole: don't repair them, but install that version again, or a later one"
        )

    def _written_by(self) -> str:
        """Return name and version of the server that wrote the data, from their first bytes."""
        for base in sorted(self.path.glob("appendonlydir/*.base.rdb")):
            try:
                with base.open("rb") as file:
                    found = re.search(rb"(valkey|redis)-ver.([0-9.]{3,15})", file.read(200), re.DOTALL)
            except OSError:
                continue
            if found is not None:
                return f" ({found[1].decode().title()} {found[2].decode()})"
        return ""

    def _log(self, since: int) -> str:
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(since, log.seek(0, os.SEEK_END) - 4096))
                return log.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def last_log_line(self, since: int = 0) -> str:
        """Return the last log line after offset `since` (bytes), without pid and time; may be empty."""
        lines = self._log(since).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return re.sub(r"^\d+:[A-Z] [^*#]*?\.\d{3} [.*#-] ", "", last)[:200]


def _settings(directory: Path, log_file: Path, port: int) -> dict[str, str]:
    return {
        "bind": LOOPBACK,
        "protected-mode": "yes",
        "port": str(port),
        "tcp-backlog": "128",
        "maxclients": "1000",
        "daemonize": "no",
        "supervised": "no",
        "dir": _quoted(directory),
        "logfile": _quoted(log_file),
        "loglevel": "notice",
        # The server wouldn't start with a missing locale from the environment.
        "locale-collate": "C",
        # No snapshots: the append-only file, synced before each reply, is the only copy.
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-use-rdb-preamble": "yes",
        # A truncated last entry, after a kill during a write, was never answered.
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": str(_changes_limit(directory)),
        # About thirty events per stream node instead of four: a sixth less work per event.
        "stream-node-max-bytes": "32768",
    }


def _changes_limit(directory: Path) -> int:
    share = shutil.disk_usage(directory).free // _CHANGES_SHARE
    return max(_CHANGES_LEAST, min(share, _CHANGES_MOST))


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.fsencode(text))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _pack_flock(kind: int, pid: int) -> bytes:
    if sys.platform == "linux":
        return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, pid)
    return struct.pack(_FLOCK, 0, 0, pid, kind, os.SEEK_SET)


def _unpack_flock(data: bytes) -> tuple[int, int]:
    fields = struct.unpack(_FLOCK, data)
    return (fields[0], fields[4]) if sys.platform == "linux" else (fields[3], fields[2])
