"""Runs the `jt709c` program in processes that are forked from one which has imported it already.

Importing takes most of the time of such a process, and the tests start several hundred of them. Each is a
process of its own all the same, with its own arguments, environment, files, exit status and reactor. Tests of
the start itself use the program as users do. This file runs as a script: what it imports beside the standard
library is the program's.
"""

import ctypes
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from typing import IO, Any

#: A reactor has descriptors that processes can't share: each imports its own.
_REACTOR = "twisted.internet.reactor"
#: More than a request has; longer ones are refused by the socket.
_LARGEST = 1 << 20


class ForkedCommands:
    """The process that forks the others; it ends with this one."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (self._socket, theirs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def run(
        self, arguments: Sequence[str], stdin: str | None, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the program and wait for its end; TimeoutExpired after `timeout` seconds, and it is killed."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write((stdin or "").encode())
            given.seek(0)
            ours, theirs = socket.socketpair()
            with ours:
                request = json.dumps([list(arguments), dict(environment), os.getcwd()]).encode()
                with theirs:
                    files = [one.fileno() for one in (given, out, err, theirs)]
                    socket.send_fds(self._socket, [request], files)
                status = _status(ours, arguments, timeout)
            return subprocess.CompletedProcess(list(arguments), status, _text(out), _text(err))


def _status(ours: socket.socket, arguments: Sequence[str], timeout: float) -> int:
    """Wait for the number of the process, and then for its status, which its parent writes."""
    replies = ours.makefile("r")
    ours.settimeout(timeout)
    pid = int(replies.readline())
    try:
        return int(replies.readline())
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise subprocess.TimeoutExpired(list(arguments), timeout) from None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


class _NoReactor(MetaPathFinder):
    """Lets no module import a reactor."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == _REACTOR:
            raise ImportError(fullname)


def _import_all() -> None:
    import jt709c_gateway.cli

    guard = _NoReactor()
    sys.meta_path.insert(0, guard)
    for module in pkgutil.walk_packages(jt709c_gateway.cli.__path__, "jt709c_gateway.cli."):
        try:
            importlib.import_module(module.name)
        except ImportError:
            # It needs a reactor. What it had imported before that stays.
            continue
    sys.meta_path.remove(guard)


def _serve(requests: socket.socket) -> None:
    while True:
        text, files, _, _ = socket.recv_fds(requests, _LARGEST, 4)
        if not text:
            return
        if os.fork() == 0:
            requests.close()
            _watch(text, files)
        for one in files:
            os.close(one)


def _watch(text: bytes, files: Sequence[int]) -> None:
    """Fork the process, and write its number and its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _execute(text, files)
    os.write(files[3], b"%d\n" % pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(files[3], b"%d\n" % status)
    os._exit(0)


def _execute(text: bytes, files: Sequence[int]) -> None:
    from jt709c_gateway.cli.main import main

    status: Any = 1
    try:
        arguments, environment, directory = json.loads(text)
        for number, one in enumerate(files[:3]):
            os.dup2(one, number)
        for one in files:
            os.close(one)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        sys.argv = ["jt709c", *arguments]
        main()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
