"""Commands to a virtual lock: how it answers, and what it reports then."""

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.events import Location, LockEvent, Reply
from jt709c_gateway.simulator.lock import VirtualLock
from tests.support import simulator as simulator_support
from tests.support.simulator import START, answers, facts, read, replies

DEVICE = "794308010679"
WIRE = bytes.fromhex(DEVICE)


def make_lock(**options) -> VirtualLock:
    return simulator_support.make_lock(DEVICE, **options)


def online(**options) -> VirtualLock:
    return simulator_support.online(DEVICE, **options)


def command(serial: int, *words: str) -> bytes:
    return sentences.grouped(DEVICE, serial, *words)


class Commands(SynchronousTestCase):
    def test_an_unlock_is_answered_and_then_proved_by_a_report(self):
        lock = online()
        frames = lock.receive(command(7, "ELOCK", "1", "1", "888888"), START)
        self.assertEqual(replies(frames), [f"({DEVICE},1,007,ELOCK,1,1)"])
        (location,) = facts(frames, Location)
        self.assertTrue(location.motor_open)
        (event,) = facts(frames, LockEvent)
        self.assertEqual((event.code, event.action, event.result), (1, "unlocked", 0))

    def test_sealing_clears_motor_and_rope(self):
        lock = online()
        lock.receive(command(1, "ELOCK", "1", "1", "888888"), START)
        lock.tick(START + 20)
        self.assertTrue(lock.vehicle.rope_open)
        frames = lock.receive(command(2, "ELOCK", "4", "1"), START + 21)
        self.assertEqual(replies(frames), [f"({DEVICE},1,002,ELOCK,4,1)"])
        self.assertEqual([location.lock_state for location in facts(frames, Location)], ["locked"])

    def test_a_repeated_serial_is_dropped(self):
        lock = online()
        self.assertTrue(lock.receive(command(5, "BASE", "1"), START))
        self.assertEqual(lock.receive(command(5, "ELOCK", "1", "1", "888888"), START), [])
        self.assertFalse(lock.vehicle.motor_open)
        self.assertEqual((lock.counters.commands, lock.counters.commands_dropped), (2, 1))

    def test_wrong_passwords_are_refused_counted_and_the_fifth_raises_an_alarm(self):
        lock = online()
        for tries in range(1, 6):
            frames = lock.receive(command(tries, "ELOCK", "1", "1", "123456"), START)
            lock.receive(answers(frames), START)
            self.assertEqual(replies(frames), [f"({DEVICE},1,{tries:03d},ELOCK,1,0,{tries})"])
            (event,) = facts(frames, LockEvent)
            self.assertEqual((event.code, event.action), (6, "refused"))
            (location,) = facts(frames, Location)
            self.assertEqual(bool(location.alarms), tries == 5)
        frames = lock.receive(command(6, "ELOCK", "1", "1", "888888"), START)
        self.assertEqual(facts(frames, Location)[0].alarms, ())

    def test_the_password_can_be_changed_by_who_knows_it(self):
        lock = online()
        said = []
        for serial, words in enumerate(
            (("5", "1", "abc123", "000000"), ("5", "1", "abc123", "888888"), ("1", "1", "abc123"))
        ):
            said += replies(lock.receive(command(serial, "ELOCK", *words), START))
        self.assertEqual([text.split(",ELOCK,")[1] for text in said], ["5,0)", "5,1)", "1,1)"])

    def test_a_dynamic_password_opens_once_and_the_next_one_is_reported(self):
        lock = make_lock(dynamic_password=True)
        password = read(lock.connected(START))[0].secret
        frames = lock.receive(command(1, "ELOCK", "6", "1", password), START)
        texts = replies(frames)
        self.assertEqual(texts[0], f"({DEVICE},1,001,ELOCK,6,1)")
        self.assertRegex(texts[1], r",ELOCK,3,\d{6}\)$")
        self.assertNotIn(password, texts[1])
        again = replies(lock.receive(command(2, "ELOCK", "6", "1", password), START))
        self.assertEqual(again, [f"({DEVICE},1,002,ELOCK,6,0,1)"])

    def test_firmware_and_the_clock(self):
        lock = online()
        self.assertEqual(
            replies(lock.receive(command(1, "BASE", "1"), START)), [f"({DEVICE},1,001,BASE,1,JT709C_SIM_1.0)"]
        )
        when = datetime.fromtimestamp(START + 50, UTC).strftime("%Y%m%d%H%M%S")
        self.assertEqual(
            replies(lock.receive(command(2, "BASE", "2", when), START)), [f"({DEVICE},1,002,BASE,2,1)"]
        )
        self.assertEqual(lock.vehicle.clock_ahead, 50)

    def test_refuse_says_no_to_everything(self):
        lock = online(refuse=True)
        frames = lock.receive(command(1, "ELOCK", "1", "1", "888888") + command(2, "ELOCK", "4", "1"), START)
        self.assertEqual([text[-6:] for text in replies(frames)], [",1,0,1)"[-6:], "CK,4,0)"[-6:]])
        (reply,) = facts(lock.receive(jt808.encode(0x8201, WIRE, 3, b""), START), Reply)
        self.assertEqual(reply.result, 1)
        self.assertFalse(lock.vehicle.unlocked)

    def test_mute_never_answers_and_never_moves(self):
        lock = online(mute=True)
        data = command(1, "ELOCK", "1", "1", "888888") + jt808.encode(0x8107, WIRE, 3, b"")
        self.assertEqual(lock.receive(data, START), [])
        self.assertEqual((lock.counters.commands, lock.counters.commands_answered), (2, 0))
        self.assertFalse(lock.vehicle.unlocked)

    def test_no_evidence_says_yes_and_never_moves(self):
        lock = online(no_evidence=True)
        frames = lock.receive(command(1, "ELOCK", "1", "1", "888888"), START)
        self.assertEqual((len(frames), replies(frames)), (1, [f"({DEVICE},1,001,ELOCK,1,1)"]))
        self.assertFalse(lock.vehicle.unlocked)

    def test_locating_gives_a_location_that_names_the_query(self):
        lock = online()
        frames = lock.receive(jt808.encode(0x8201, WIRE, 0x1234, b""), START)
        self.assertEqual(facts(frames, Reply)[0].answered_serial, 0x1234)
        self.assertEqual(len(facts(frames, Location)), 1)
        lock.receive(answers(frames), START)
        self.assertEqual(lock.unanswered, 0)

    def test_parameters_can_be_set_and_read_back(self):
        lock = online()
        item = bytes.fromhex("00000013") + b"\x03abc"
        (reply,) = facts(lock.receive(jt808.encode(0x8103, WIRE, 1, b"\x01" + item), START), Reply)
        self.assertEqual((reply.answered_id, reply.result), ("8103", 0))
        (reply,) = facts(lock.receive(jt808.encode(0x8104, WIRE, 2, b""), START), Reply)
        self.assertEqual(reply.parameters, {"0001": "00000000", "0029": "0000000a", "0013": b"abc".hex()})
        wanted = b"\x02" + bytes.fromhex("00000013 00000099")
        (reply,) = facts(lock.receive(jt808.encode(0x8106, WIRE, 3, wanted), START), Reply)
        self.assertEqual((reply.answered_serial, reply.parameters), (3, {"0013": b"abc".hex()}))

    def test_attributes_text_and_what_it_does_not_know(self):
        lock = online()
        (message,) = read(lock.receive(jt808.encode(0x8107, WIRE, 1, b""), START))
        self.assertEqual(message.firmware, "JT709C_SIM_1.0")
        results = [
            facts(lock.receive(jt808.encode(number, WIRE, 2, body), START), Reply)[0].result
            for number, body in ((0x8300, b"\x04hello"), (0x8103, b"\x01\x00"), (0x8999, b""))
        ]
        self.assertEqual(results, [0, 2, 3])

    def test_no_password_shows_in_a_repr(self):
        lock = make_lock(password="s3cr3t", dynamic_password=True)
        lock.connected(START)
        lock.receive(command(1, "ELOCK", "1", "1", "s3cr3t"), START)
        for thing in (
            lock,
            lock.mechanism,
            lock.dialect,
            lock.buffer,
            lock.options,
            *lock.buffer.in_flight.values(),
        ):
            self.assertNotIn("s3cr3t", repr(thing))
            self.assertNotIn(lock.mechanism.dynamic_password, repr(thing))
