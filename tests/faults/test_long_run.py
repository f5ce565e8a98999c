"""The long run of faults: its plan follows from its seed, violations are counted, a short run breaks
nothing."""

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.injector import FaultInjector
from tests.faults.long_run import KINDS, Tally, late_changes, started
from tests.faults.plan import FAULTS, TOPOLOGIES, Fault, RoundPlan, plan


class PlanTests(SynchronousTestCase):
    def test_seed(self) -> None:
        """The same seed gives the same plan, another seed another."""
        self.assertEqual(list(plan(120, 7)), list(plan(120, 7)))
        self.assertNotEqual(list(plan(120, 7)), list(plan(120, 8)))

    def test_longer(self) -> None:
        """A longer plan starts as a shorter one does, and has the requested number of faults."""
        short, longer = list(plan(60, 7)), list(plan(120, 7))
        self.assertEqual(longer[:2], short[:2])
        self.assertEqual(sum(len(one.faults) for one in short), 60)

    def test_everything_comes(self) -> None:
        """A thousand faults include every fault and every topology, and the injector has each fault."""
        rounds = list(plan(1000, 7))
        self.assertEqual({one.topology for one in rounds}, set(TOPOLOGIES))
        self.assertEqual({fault.name for one in rounds for fault in one.faults}, set(FAULTS))
        for name in FAULTS:
            self.assertTrue(callable(getattr(FaultInjector, name)), name)


class TallyTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Each violation counts under its kind."""
        tally = Tally()
        for line in (
            "lost: report 1",
            "doubled: report 2",
            "doubled command: unlock",
            "no outcome: text",
            "lost command: text",
            "after its end: o1",
            "false outcome: unlock",
            "left: report 3",
        ):
            tally.add(line, "round 1")
        self.assertEqual([tally.broken[kind] for kind in KINDS], [1, 1, 1, 2, 1, 1, 1])
        self.assertIn("commands without an outcome: 2", tally.summary(7))

    def test_late_changes(self) -> None:
        """After an end only evidence changes a state."""
        steps = {
            "a": ["queued", "sent", "uncertain", "confirmed"],
            "b": ["queued", "expired"],
            "c": ["queued", "sent", "confirmed", "uncertain"],
            "d": ["queued", "failed", "confirmed"],
        }
        found = late_changes(steps)
        self.assertEqual([line.split()[3] for line in found], ["c", "d"])


class ShortRunTests(SynchronousTestCase):
    def test_short_run(self) -> None:
        """A few faults with two gateways: no violations."""
        names = (
            "proxy_stuck",
            "links_vanish",
            "pause_server",
            "proxy_cut",
            "connections_killed",
            "out_of_memory",
        )
        faults = [Fault(name, 0.2, 0.9, number) for number, name in enumerate(names)]
        tally = Tally()
        fault_round = started(RoundPlan(1, TOPOLOGIES[1], 7, faults), tally)
        self.addCleanup(fault_round.discard)
        fault_round.run(lambda line: None)
        self.assertFalse(tally.broken, tally.summary(7))
        self.assertEqual(tally.faults.total(), len(names))
        self.assertGreater(tally.answered, 100)
        self.assertGreater(tally.commands, 10)
