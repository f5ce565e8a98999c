"""The record of a command: what is shown, what is stored, and taking a command up again from it."""

import attrs

from jt709c_gateway.commands.lifecycle import Action, CommandExecution, LifecycleError
from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.serialization import (
    PRIVATE_FIELDS,
    PUBLIC_FIELDS,
    from_hash,
    from_queue_entry,
    invalid_record,
    public_from_hash,
    to_hash,
    to_queue_entry,
)
from tests.support.lifecycle import DEVICE, PROFILES, UNLOCKED, YES, LifecycleCase, T, run, sent


class RecordTests(LifecycleCase):
    def test_fields(self) -> None:
        """The event has these fields, the hash a few more."""
        one = sent()
        self.assertEqual(tuple(one.public()), PUBLIC_FIELDS)
        self.assertEqual(tuple(one.stored()), PUBLIC_FIELDS + PRIVATE_FIELDS)
        self.assertEqual(tuple(invalid_record(InvalidCommand("a", "b", "c"), T)), PUBLIC_FIELDS)

    def test_public(self) -> None:
        """One whole record."""
        one = sent(issued_by="ops", batch="b1")
        self.assertEqual(
            one.public(),
            {
                "id": "i",
                "command": "unlock",
                "device": DEVICE,
                "peripheral": None,
                "state": "sent",
                "params": {"password": MASK},
                "conditions": None,
                "issued_by": "ops",
                "batch": "b1",
                "key": None,
                "physical": True,
                "assumed": True,
                "provenance": "assumed",
                "created_at": "2023-11-14T22:13:20.000000Z",
                "sent_at": "2023-11-14T22:13:21.000000Z",
                "acknowledged_at": None,
                "confirmed_at": None,
                "ended_at": None,
                "attempts": 1,
                "serial": 7,
                "reason": None,
                "answer": None,
                "profile": "jt709",
                "evidence": None,
            },
        )

    def test_provenance_in_records_of_older_gateways(self) -> None:
        """Where a hash has only the boolean, `assumed` is told, and of the two others nothing made up."""
        for assumed, expected in (("true", "assumed"), ("false", None), ("", None)):
            fields = {"assumed": assumed, "state": "done"}
            self.assertEqual(from_hash(fields)["provenance"], expected)
            self.assertEqual(public_from_hash(fields)["provenance"], expected)

    def test_invalid_record(self) -> None:
        """A command that could not be read is reported as far as it could."""
        record = invalid_record(InvalidCommand("ttl", "is 0", "more", command_id="i", device="1"), T)
        self.assertEqual((record["id"], record["device"], record["state"]), ("i", "1", "invalid"))
        self.assertEqual(record["reason"], "ttl: is 0; expected more")

    def test_late_evidence_after_a_restart(self) -> None:
        """From the hash alone a command can still be confirmed."""
        for end in (
            lambda one: one.deadline(T + 31),
            lambda one: (one.reply(YES, T + 2), one.deadline(T + 122)),
        ):
            one = sent(issued_by="ops", reply_to="r", batch="b1")
            end(one)
            fields = to_hash(one.stored())
            self.assertTrue(all(isinstance(value, str) for value in fields.values()))
            self.assertNotIn("778899", repr(fields))
            spec = PROFILES.spec_of(fields["profile"], fields["command"], one.public()["params"])
            again = CommandExecution.restore(fields, spec)
            self.assertEqual(again.stored(), one.stored())
            self.assertEqual((again.command.reply_to, again.command.batch), ("r", "b1"))
            self.expect(again.observe(UNLOCKED, T + 200), "confirmed")

    def test_masked_run_keeps_no_words(self) -> None:
        """A run that doesn't know its secrets can't take them out of a late answer."""
        one = sent()
        one.deadline(T + 31)
        again = CommandExecution.restore(to_hash(one.stored()), one.spec)
        again.reply(Answer(False, "no 778899", True, ("0", "778899")), T + 40)
        self.assertEqual(
            again.public()["answer"], {"accepted": False, "understood": True, "wrong_password": True}
        )

    def test_crash_after_recording(self) -> None:
        """With the record that went before the bytes, a physical command is never written again."""
        one = run()
        record = one.writing(T, 7).transitions[0]
        stored = from_queue_entry(to_queue_entry(one.command))
        again = CommandExecution.restore(to_hash(record.fields), one.spec, command=stored)
        self.assertTrue(again.in_flight)
        self.assertRaises(LifecycleError, again.writing, T + 1, 8)
        self.expect(again.recovered(T + 1), "uncertain")

    def test_plain_command_after_a_crash(self) -> None:
        """A plain command goes on with the repeats it has left."""
        one = sent("query")
        again = CommandExecution.restore(to_hash(one.stored()), one.spec, command=one.command)
        self.assertEqual(again.next_deadline, one.next_deadline)
        self.expect(again.recovered(T + 2), "queued", action=Action.REQUEUE)
        again.writing(T + 3, 8)
        self.assertEqual((again.attempts, again.serials), (2, [7, 8]))

    def test_masks_are_never_written(self) -> None:
        """Six stars would pass for a password."""
        one = run()
        again = CommandExecution.restore(to_hash(one.stored()), one.spec)
        self.assertRaises(LifecycleError, again.writing, T, 7)

    def test_profile_changed(self) -> None:
        """What was written as a physical command stays one, whatever a new profile says of it."""
        one = sent()
        assert one.spec is not None
        tame = attrs.evolve(one.spec, physical=False, evidence=None, repeats=3)
        again = CommandExecution.restore(to_hash(one.stored()), tame, command=one.command)
        again.assign(tame)
        self.expect(again.deadline(T + 31), "uncertain")

    def test_profile_gone(self) -> None:
        """Without its profile a record can be read, not confirmed."""
        one = sent()
        again = CommandExecution.restore(to_hash(one.stored()), None)
        self.assertEqual(again.public(), one.public())
        self.assertFalse(again.confirmable)
        self.expect(again.observe(UNLOCKED, T + 6))
        self.expect(again.recovered(T + 6), "uncertain")

    def test_unreadable_records(self) -> None:
        """Hashes that are not ours are refused as such."""
        fields = to_hash(sent().stored())
        for broken in (
            {},
            {**fields, "state": "dancing"},
            {**fields, "state": ""},
            {**fields, "created_at": ""},
            {**fields, "created_at": "2023-11-14T22:13:20"},
            {**fields, "attempts": "["},
            {**fields, "attempts": "{}"},
            {**fields, "serials": "7"},
        ):
            self.assertRaises(ValueError, CommandExecution.restore, broken, None)

    def test_hash(self) -> None:
        """Text stays as it is, so that a person can read the hash; foreign fields are left out."""
        fields = to_hash(sent().stored())
        self.assertEqual((fields["state"], fields["attempts"], fields["physical"]), ("sent", "1", "true"))
        self.assertEqual((fields["params"], fields["reason"]), ('{"password":"******"}', ""))
        self.assertEqual(from_hash({"id": "7", "other": "x", "sent_at": fields["sent_at"]})["sent_at"], T + 1)
        self.assertNotIn("other", from_hash({"other": "x"}))

    def test_cut_reason_holds_no_half_secret(self) -> None:
        """A reason is cleaned before it is cut."""
        one = run()
        one.writing(T, 7)
        one.write_failed(T, "x" * 197 + "778899", True)
        self.assertNotIn("778", one.reason or "")

    def test_repr(self) -> None:
        """Runs may be logged."""
        one = run()
        one.hide({"443322"})
        self.assertNotIn("443322", repr(one))
        self.assertNotIn("778899", repr(one))
