"""Event ids."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.event_ids import EventIds


class EventIdTests(SynchronousTestCase):
    def test_unique_and_ordered(self) -> None:
        """Ids begin with the gateway's name, are unique, and sort by the time they were made."""
        now = [1_763_465_400.0]
        ids = EventIds("gw1", lambda: now[0])
        made = []
        for _ in range(100):
            ids.tick()
            made += [ids() for _ in range(10)]
            now[0] += 0.001
        self.assertEqual(made, sorted(set(made)))
        for one in made:
            self.assertRegex(one, r"^gw1-[0-9A-HJKMNP-TV-Z]{16}[0-9A-F]{8}$")

    def test_clock_set_back(self) -> None:
        """A clock that is set back makes no id twice."""
        now = [1_763_465_400.0]
        ids = EventIds("gw1", lambda: now[0])
        made = [ids()]
        now[0] -= 3600
        ids.tick()
        made.append(ids())
        now[0] += 3600
        ids.tick()
        made.append(ids())
        self.assertEqual(len(set(made)), 3)

    def test_runs(self) -> None:
        """Two runs of one gateway, started in the same millisecond, make different ids."""
        first, second = EventIds("gw1", lambda: 1.0), EventIds("gw1", lambda: 1.0)
        self.assertEqual(len({first(), first(), second(), second()}), 4)

    def test_milliseconds(self) -> None:
        """The millisecond is written in Crockford's base 32."""
        self.assertTrue(EventIds("g", lambda: 1.0)().startswith("g-00000000Z8"))
