"""A full disk under the embedded server.

Without the right to mount one, a limit on the size of files does the same to the server: a write past it
fails (`EFBIG`; the launcher's Python leaves SIGXFSZ ignored) as one on a full disk does (`ENOSPC`), in part
or as a whole. With ``appendfsync always`` the server then ends before it answers what it could not write; it
is started again, reads what it has, and ends at the next write, until there is room. On a disk without any
room at all the gateway can't even write the server's configuration, and tries that again instead.
"""

import resource
from pathlib import Path

from tests.faults.fault_case import FaultTestCase
from tests.support import wait_until

_NO_LIMIT = resource.RLIM_INFINITY


class FullDiskTests(FaultTestCase):
    def limit(self, pid: int, size: int) -> None:
        """How large the files of a process may become; the hard limit stays, so this can be taken back."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def log_of_changes(self) -> Path:
        """The file that grows with each commit."""
        return max((self.daemon.directory / "jt709c-data/valkey/appendonlydir").glob("*.incr.aof"))

    def test_full(self) -> None:
        """No room for a while, over several starts of the server: nothing is answered or lost."""
        self.load(embedded=True)
        room = self.log_of_changes().stat().st_size + self.dice.randrange(2000, 40_000)
        # The server now, and those that the gateway starts in its place.
        self.limit(self.daemon.pid, room)
        self.limit(self.daemon.embedded_pid(), room)
        self.wait_for_log("embedded Valkey ended", timeout=20)
        self.outage(1.5)
        self.limit(self.daemon.pid, _NO_LIMIT)
        wait_until(self.let_grow)
        self.settle()
        # Whoever looks finds out why.
        self.assertIn("AOF write error", self.daemon.log())
        self.check_log(60)

    def let_grow(self) -> bool:
        """Give the server that runs now its room, if it began before there was any."""
        try:
            self.limit(self.daemon.embedded_pid(), _NO_LIMIT)
        except OSError:
            return False
        return True
