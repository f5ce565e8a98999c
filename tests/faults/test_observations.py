"""`Observations` finds each kind of violation in the stream and in command records."""

import json

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.redis.partitions import Partitions
from tests.faults import observations
from tests.faults.observations import IssuedCommand, Observations, Outcome, Reaction, Report
from tests.support import key_prefix, shared_server
from tests.support.partitioned import PartitionedClient

DEVICE = "794308010679"


class StreamTests(SynchronousTestCase):
    """Reports in a real stream, good and bad."""

    def setUp(self) -> None:
        self.prefix = key_prefix()
        self.redis = shared_server().client()
        self.addCleanup(self.redis.close)
        self.observations = Observations()

    def report(self, serial: int, answered: bool = True, published: int = 1) -> Report:
        """Record a report of a lock, with its answers and stream entries."""
        report = Report(DEVICE, serial, b"~%d~" % serial, f"7e{serial:04x}7e", sent=1)
        self.observations.add_report(report)
        if answered:
            self.observations.was_answered(DEVICE, serial, 1.0)
        for _ in range(published):
            self.publish("location", device=DEVICE, serial=serial, raw=report.raw)
        return report

    def publish(self, kind: str, **event: object) -> None:
        """Publish an event as the gateway does."""
        text = json.dumps({"kind": kind, **event})
        self.redis.call("XADD", f"{self.prefix}:events", "*", "kind", kind, "device", DEVICE, "event", text)

    def found(self, **options: bool) -> list[str]:
        """Return the kinds of the violations found."""
        return [
            line.partition(":")[0] for line in self.observations.verify(self.redis, self.prefix, **options)
        ]

    def command(self, *states: str) -> IssuedCommand:
        """Record a command with events of these states and a hash with the last of them."""
        command = IssuedCommand("command-1", DEVICE, True, Reaction.OPENS, "100001", seen=[b"(1)"])
        self.observations.issued(command)
        for state in states:
            self.publish("command", data={"id": command.id, "state": state})
        key = f"{self.prefix}:command:{command.id}"
        self.redis.call("HSET", key, "state", states[-1], "reason", "", "attempts", "1")
        return command

    def test_pages_of_partitions(self) -> None:
        """Of several partitions, whose streams have entries of the same ids, nothing is missed."""
        layout = Partitions(self.prefix, 2)
        events = [
            json.dumps({"kind": "command", "data": {"id": f"c{number}", "state": "queued"}})
            for number in range(10)
        ]
        for number, event in enumerate(events):
            key = layout.keys[number % 2].events
            self.redis.call("XADD", key, f"{1 + number // 2}-0", "kind", "", "device", "", "event", event)
        with PartitionedClient(layout, lambda _, limit: shared_server().client(limit)) as redis:
            page = redis.call("XRANGE", f"{self.prefix}:events", "-", "+", "COUNT", 3)
            self.assertEqual([entry for entry, _ in page], [b"1-0", b"1-0", b"2-0", b"2-0"])
            self.patch(observations, "_PAGE", 3)
            _, steps = observations.read_stream(redis, self.prefix)
        self.assertEqual(len(steps), len(events))

    def test_good(self) -> None:
        """Every report once and a command with its end: no violation, also in more than one page."""
        for serial in range(1, 2500):
            self.report(serial)
        self.command("queued", "sent", "acknowledged", "confirmed")
        self.assertEqual(self.found(settled=True), [])

    def test_lost(self) -> None:
        """A report that was answered and is not in the stream."""
        self.report(1)
        self.report(2, published=0)
        self.assertEqual(self.found(), ["lost"])

    def test_doubled(self) -> None:
        """A report that is in the stream twice, answered or not."""
        self.report(1, published=2)
        self.report(2, answered=False, published=2)
        self.assertEqual(self.found(drained=False), ["doubled", "doubled"])

    def test_never_answered(self) -> None:
        """A report that stays unanswered is a violation once its lock has had time to resend."""
        self.report(1, answered=False, published=0)
        self.report(2, answered=False)
        self.assertEqual(self.found(), ["left", "left"])
        self.assertEqual(self.found(drained=False), [])

    def test_other_bytes(self) -> None:
        """The right serial with other bytes is another report: one is lost, one made up."""
        self.report(1, published=0)
        self.publish("location", device=DEVICE, serial=1, raw="7e7e")
        self.assertEqual(self.found(), ["lost", "made up"])

    def test_answer_to_nothing(self) -> None:
        """An answer to a serial that was never sent."""
        self.observations.was_answered(DEVICE, 7, 1.0)
        self.assertEqual(len(self.observations.unexpected), 1)
        self.assertEqual(len(self.found()), 1)

    def test_many(self) -> None:
        """Of many violations of a kind a few are listed, and all are counted."""
        for serial in range(1, 41):
            self.report(serial, published=0)
        self.assertEqual(self.observations.verify(self.redis, self.prefix)[-1], "lost: 40 in all")

    def test_command_without_record(self) -> None:
        """A command unknown to Redis, and one without an end."""
        command = self.command("queued", "sent")
        self.assertEqual(self.found(), ["no outcome"])
        self.redis.call("DEL", f"{self.prefix}:command:{command.id}")
        self.assertEqual(self.found(), ["lost command"])

    def test_steps(self) -> None:
        """States that must not follow each other."""
        self.command("queued", "expired", "confirmed")
        self.assertEqual(self.found(), ["steps of command-1"])

    def test_command_seen_by_nobody_it_is_for(self) -> None:
        """A frame of no known command, or at the wrong lock."""
        command = self.command("queued", "sent", "confirmed")
        self.assertIs(self.observations.received(DEVICE, command.mark, b"(1)"), command)
        self.assertIsNone(self.observations.received("794308010680", command.mark, b"(1)"))
        self.assertIsNone(self.observations.received(DEVICE, "999999", b"(1)"))
        self.assertEqual(len(self.observations.unexpected), 2)


class OutcomeTests(SynchronousTestCase):
    """The truth table of `Observations.check_commands`."""

    STATES = sorted(ENDED)

    def true_states(self, physical: bool, reaction: Reaction | None, **more: object) -> set[str]:
        """Return the states accepted for a command with this reaction of its lock; None: never received."""
        passed = set()
        for state in self.STATES:
            observations = Observations()
            command = IssuedCommand("command-1", DEVICE, physical, reaction or Reaction.OPENS, "100001")
            if reaction is not None:
                command.seen.append(b"(1)")
                if reaction is Reaction.OPENS:
                    command.movement = Report(DEVICE, 1, b"", "")
            observations.issued(command)
            outcome = Outcome(state, str(more.get("reason", "")), int(str(more.get("attempts", 0))))
            if not observations.check_commands({"command-1": outcome}, settled=bool(more.get("settled"))):
                passed.add(str(state))
        return passed

    def test_unlock(self) -> None:
        """Final states of an unlock command, by the reaction of its lock."""
        for reaction, states in (
            (None, "failed expired uncertain"),
            (Reaction.OPENS, "confirmed uncertain unconfirmed"),
            (Reaction.YES_ONLY, "unconfirmed uncertain"),
            (Reaction.REFUSES, "rejected uncertain"),
            (Reaction.MUTE, "uncertain"),
        ):
            self.assertEqual(self.true_states(True, reaction), set(states.split()), reaction)

    def test_settled(self) -> None:
        """Where no gateway died, a command that moved its lock has to be confirmed."""
        self.assertEqual(self.true_states(True, Reaction.OPENS, settled=True), {"confirmed"})
        self.assertEqual(self.true_states(True, Reaction.MUTE, settled=True), {"uncertain"})

    def test_spared(self) -> None:
        """An unlock withheld after two wrong passwords is rejected without having been received."""
        self.assertIn("rejected", self.true_states(True, None, reason=lockout.REASON))

    def test_text(self) -> None:
        """Final states of a command that moves nothing."""
        self.assertEqual(self.true_states(False, None), {"failed", "expired", "timed_out"})
        self.assertEqual(self.true_states(False, Reaction.OPENS), {"done", "timed_out"})
        self.assertEqual(
            self.true_states(False, Reaction.OPENS, attempts=2), {"done", "timed_out", "expired"}
        )

    def test_written_twice(self) -> None:
        """An unlock received twice is a violation whatever its outcome; a text may be repeated."""
        for physical, violations in ((True, ["doubled command"]), (False, [])):
            observations = Observations()
            command = IssuedCommand("command-1", DEVICE, physical, Reaction.OPENS, "100001")
            observations.issued(command)
            for _ in range(2):
                observations.received(DEVICE, "100001", b"(1)")
            state = "confirmed" if physical else "done"
            found = observations.check_commands({"command-1": Outcome(state)})
            self.assertEqual([line.partition(":")[0] for line in found], violations)
