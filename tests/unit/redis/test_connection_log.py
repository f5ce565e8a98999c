"""What is logged about connections to Redis: each change once, however many connections there are."""

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.connection_log import ConnectionLog

REACHED = "connected to Redis at redis://h:1"


class ConnectionLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = ConnectionLog("redis://h:1")

    def lines(self, *steps: tuple[str, ...]) -> list[str]:
        """What these calls log, each the name of a method and its arguments."""
        with capturedLogs() as events:
            for name, *arguments in steps:
                getattr(self.log, name)(*arguments)
        return [formatEvent(event) for event in events]

    def test_connected_once(self) -> None:
        """Three connections to one server are one line."""
        self.assertEqual(self.lines(("connected",), ("connected",), ("connected",)), [REACHED])

    def test_failures_once(self) -> None:
        """Each reason of several connections and attempts is logged once, and success after it again."""
        failed = "cannot connect to Redis at redis://h:1: {}; trying again"
        self.assertEqual(
            self.lines(
                *[("failed", "refused")] * 3,
                ("failed", "no route"),
                ("connected",),
                ("connected",),
                ("failed", "refused"),
            ),
            [failed.format("refused"), failed.format("no route"), REACHED, failed.format("refused")],
        )
        self.assertEqual(self.lines(("connected",)), [REACHED])

    def test_lost_once(self) -> None:
        """An outage that ends all connections is one line, and their return another."""
        lost = "lost the connection to Redis at redis://h:1: closed; reconnecting"
        self.assertEqual(self.lines(("connected",), ("lost", "closed"), ("lost", "closed")), [REACHED, lost])
        self.assertEqual(self.lines(("connected",), ("connected",)), [REACHED])

    def test_many_reasons(self) -> None:
        """Reasons that differ each time do not fill the log."""
        self.assertEqual(len(self.lines(*[("failed", f"reason {n}") for n in range(100)])), 8)
