"""A primary, its replica and a sentinel that promotes it: real servers, and a replication that can be cut."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ValkeyServer, redis_groups, wait_until

_MASTER = "fleet"
#: Milliseconds after which a silent primary counts as down.
_DOWN_AFTER = 300
#: Servers that admit a replica at once, without waiting for more.
_AT_ONCE = ("--repl-diskless-sync-delay", "0")


class Sentinel(redis_groups.Sentinel):
    """A sentinel that watches one primary and decides alone."""

    def __init__(self, primary: ValkeyServer) -> None:
        super().__init__(primary.port, _MASTER, 1, _DOWN_AFTER, 5000)

    @property
    def url(self) -> str:
        """Its URL for ``--redis``."""
        return f"redis+sentinel://{LOOPBACK}:{self.port}/{_MASTER}"

    def knows(self) -> bool:
        """Whether it has found the replica and could promote it."""
        with self.client() as client:
            replicas = client.call("SENTINEL", "REPLICAS", _MASTER)
        facts = dict(zip(replicas[0][::2], replicas[0][1::2], strict=True)) if replicas else {}
        return facts.get(b"flags") == b"slave" and facts.get(b"master-link-status") == b"ok"


def replicated(test: SynchronousTestCase, *options: str) -> tuple[ValkeyServer, ValkeyServer]:
    """Start a primary and its replica, in sync; they end with the test."""
    primary = ValkeyServer(*_AT_ONCE, *options).start()
    test.addCleanup(primary.discard)
    replica = ValkeyServer("--replicaof", LOOPBACK, str(primary.port), *_AT_ONCE, *options).start()
    test.addCleanup(replica.discard)
    wait_until(lambda: replicas_with_all(primary) == 1, message="the replica is not in step")
    return primary, replica


def replicas_with_all(server: ValkeyServer) -> int:
    """Return how many replicas have all data of a server."""
    with server.client() as client:
        client.call("SET", "tests:mark", 1)
        found: int = client.call("WAIT", 1, 100)
        return found


def cut_replication(server: ValkeyServer, cut: bool = True) -> None:
    """Have a primary reject its replicas, which keep trying, or admit them again."""
    sign = "-" if cut else "+"
    with server.client() as client:
        client.call("ACL", "SETUSER", "default", f"{sign}psync", f"{sign}sync")
        if cut:
            client.call("CLIENT", "KILL", "TYPE", "replica")
    if cut:
        wait_until(lambda: not replicas_with_all(server))


class FailOver:
    """Primary, replica and sentinel. After `kill` the former replica is the primary."""

    def __init__(self, test: SynchronousTestCase, *options: str) -> None:
        self._test = test
        self.primary, self.replica = replicated(test, *options)
        self.sentinel = Sentinel(self.primary).start()
        test.addCleanup(self.sentinel.discard)
        wait_until(self.sentinel.knows, message="the sentinel does not know the replica")

    def kill(self) -> None:
        """kill -9 the primary, and wait until its replica has been promoted."""
        self.primary.kill()

        def promoted() -> bool:
            # The sentinel disconnects all clients of a server in the step that makes it a primary.
            try:
                with self.replica.client() as client:
                    return bool(client.call("ROLE")[0] == b"master")
            except ConnectionError:
                return False

        wait_until(promoted, message="the replica was not promoted")

    def add_replica(self) -> None:
        """Give the former replica its own replica."""
        spare = ValkeyServer("--replicaof", LOOPBACK, str(self.replica.port)).start()
        self._test.addCleanup(spare.discard)
