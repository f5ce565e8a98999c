"""Becomes the embedded Valkey server, after tying its life to the gateway's and to its data directory.

Run as a script, by path, by `EmbeddedServer`; it needs the standard library only. Why a launcher: what it
does must happen between fork and exec, and Python code there (``preexec_fn``) is not safe once a process
has threads. Why it turns into the server (exec) rather than watching over it from a second process: there
is one process, whose pid, exit status and signals are the server's own, and no watcher whose death would
set the server free.

The tie to the gateway is Linux's parent death signal: SIGKILL, which works on a server that hangs too and
costs nothing, since every reply follows an fsync. Where there is no such thing, a server that outlives a
killed gateway is found by its lock and ended when the next gateway starts. The signal comes when the
*thread* that forked ends: in Twisted that is the reactor's, which lasts as long as the gateway does. Workers
(``--workers``) are tied to their supervisor in the same way.

The lock is a POSIX record lock on a file beside the data. It belongs to the process, outlives exec, ends
with the process however that ends, and the kernel names its holder: so there is never a second server on
the same data, and which one is there needs no pid file that could lie.
"""

import ctypes
import fcntl
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_LOCKED = 75
"""Exit status when another server holds the lock (EX_TEMPFAIL)."""


def belong_to(parent: int) -> None:
    """Leave the parent's session, and end with the parent however it ends; exit when it has ended already."""
    # Of its own session: a Ctrl-C in the gateway's terminal is for the gateway alone, which still needs us
    # to finish.
    os.setsid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    # It may have died before the signal was asked for.
    if os.getppid() != parent:
        sys.exit("the gateway has ended")


def main(arguments: list[str]) -> None:
    """Take ``PARENT_PID DIRECTORY LOCK_FILE SERVER [ARGUMENT…]`` and become the server; returns never."""
    parent, directory, lock_file, *command = arguments
    belong_to(int(parent))
    os.umask(0o077)
    os.chdir(directory)
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(EXIT_LOCKED)
    os.set_inheritable(lock, True)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
