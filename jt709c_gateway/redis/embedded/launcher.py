"""Locks the data directory, ties itself to the gateway's life, and executes the embedded Valkey server.

`EmbeddedServer` runs this file as a script, by path; it needs the standard library only. It is a separate
program because its steps must happen between fork and exec, where Python code (``preexec_fn``) is unsafe in a
process with threads. It executes the server instead of supervising it, so that there is one process, with the
server's own pid, exit status and signals, and no supervisor whose death would leave the server running.

On Linux, the parent death signal ends the server with the gateway: SIGKILL also ends a hanging server, and
loses nothing, since every reply follows an fsync. On other systems, the next gateway finds a remaining server
by its lock and ends it. The signal is sent when the *thread* that forked ends: in Twisted, the reactor's,
which lasts as long as the gateway. Workers (``--workers``) are tied to their supervisor in the same way.

The lock is a POSIX record lock on a file beside the data. It belongs to the process, survives exec, and ends
with the process; the kernel names its holder. So two servers never run on the same data, and no pid file is
needed.
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
    """Start a new session, and end together with the parent; exit if it has ended already."""
    # A new session: Ctrl-C in the gateway's terminal must reach only the gateway, which needs the server to
    # finish.
    os.setsid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    # The parent may have ended before the signal was requested.
    if os.getppid() != parent:
        sys.exit("the gateway has ended")


def main(arguments: list[str]) -> None:
    """Execute the server with ``PARENT_PID DIRECTORY LOCK_FILE SERVER [ARGUMENT…]``; never return."""
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
