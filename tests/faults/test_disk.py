"""A full disk under the embedded server.

A limit on file sizes replaces a mounted full disk, which needs root: a write past the limit fails (`EFBIG`;
the launcher's Python leaves SIGXFSZ ignored) like one on a full disk (`ENOSPC`), partly or completely. With
``appendfsync always`` the server then exits before it acknowledges the failed write. It is restarted, reads
its data, and exits at the next write until there is room. On a disk without any room the gateway can't write
the server's configuration, and retries that instead.
"""

import resource
from pathlib import Path

from tests.faults.fault_case import FaultTestCase
from tests.support import wait_until

_NO_LIMIT = resource.RLIM_INFINITY


class FullDiskTests(FaultTestCase):
    def limit(self, pid: int, size: int) -> None:
        """Limit the size of the files of a process. The hard limit stays, so the limit can be lifted."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def log_of_changes(self) -> Path:
        """Return the append-only file, which grows with each commit."""
        return max((self.daemon.directory / "jt709c-data/valkey/appendonlydir").glob("*.incr.aof"))

    def test_full(self) -> None:
        """No room for a while, over several starts of the server: nothing is answered and nothing is lost."""
        self.load(embedded=True)
        room = self.log_of_changes().stat().st_size + self.dice.randrange(2000, 40_000)
        # The running server and those that the gateway starts later.
        self.limit(self.daemon.pid, room)
        self.limit(self.daemon.embedded_pid(), room)
        self.wait_for_log("embedded Valkey ended", timeout=20)
        self.outage(1.5)
        self.limit(self.daemon.pid, _NO_LIMIT)
        wait_until(self.let_grow)
        self.settle()
        # The log names the cause.
        self.assertIn("AOF write error", self.daemon.log())
        self.check_log(60)

    def let_grow(self) -> bool:
        """Lift the limit of the running server if it started under the limit."""
        try:
            self.limit(self.daemon.embedded_pid(), _NO_LIMIT)
        except OSError:
            return False
        return True
