"""Commands that ask or set something: binary messages and sentences, their answers, repeats and refusals."""

import json

from jt709c_gateway.protocol import jt808
from tests.support.commands import CommandCase
from tests.vectors import location


def taken_apart(raw: bytes) -> tuple[int, int, bytes]:
    """Message id, serial and body of a binary command."""
    payload = jt808.unpack(raw)
    header = jt808.parse_header(payload)
    return header.message_id, header.serial, payload[header.body_start :]


class AnswerTests(CommandCase):
    """Commands that move nothing are repeated, and done when the lock has answered."""

    options = ("--allow-raw",)

    def setUp(self) -> None:
        super().setUp()
        self.lock.connect(self.daemon)

    def given(self, command: str, params: dict | None = None, **more: object) -> tuple[str, int, int, bytes]:
        """A command that was written: its own id, the message's id, serial and body."""
        command = self.client.command(self.device, command, params, **more)
        return command, *taken_apart(self.lock.next_command())

    def test_locate(self) -> None:
        """0x8201 is answered by 0x0201, and the position is the answer."""
        command, message_id, serial, body = self.given("locate")
        self.assertEqual((message_id, body), (0x8201, b""))
        self.lock.send(self.lock.frame(0x0201, serial.to_bytes(2, "big") + location()))
        record = self.client.wait(command, "done")
        data = json.loads(record["answer"])["data"]
        self.assertEqual((data["latitude"], data["longitude"]), (-25.269608, -57.602956))

    def test_yes_before_data(self) -> None:
        """A general answer first leaves the command acknowledged until the data come."""
        command, message_id, serial, _ = self.given("locate")
        self.lock.result(serial, message_id)
        self.client.wait(command, "acknowledged")
        self.lock.send(self.lock.frame(0x0201, serial.to_bytes(2, "big") + location()))
        self.client.wait(command, "done")

    def test_data_never_come(self) -> None:
        """Where only the general answer comes, the command is done, and its reason says what is missing."""
        command, message_id, serial, _ = self.given("locate", timeout=1)
        self.lock.result(serial, message_id)
        record = self.client.wait(command, "done")
        self.assertIn("never came", record["reason"])

    def test_get_parameters(self) -> None:
        """0x8106 is answered by 0x0104; the values are the answer, and the secret ones are masked."""
        command, message_id, serial, body = self.given("get_parameters", {"ids": ["0001", "0012"]})
        self.assertEqual((message_id, body.hex()), (0x8106, "020000000100000012"))
        values = b"\x02" + bytes.fromhex("00000001" + "04" + "0000003c") + b"\x00\x00\x00\x12\x06hidden"
        self.lock.send(self.lock.frame(0x0104, serial.to_bytes(2, "big") + values))
        record = self.client.wait(command, "done")
        data = json.loads(record["answer"])["data"]
        self.assertIn("0000003c", str(data))
        self.assertNotIn("hidden", record["answer"])
        self.assertNotIn(b"hidden".hex(), record["answer"])

    def test_set_parameters(self) -> None:
        """0x8103 with the parameters as the standard writes them; 0x0001 says done."""
        command, message_id, serial, body = self.given("set_parameters", {"parameters": {"0001": 60}})
        self.assertEqual((message_id, body.hex()), (0x8103, "0100000001040000003c"))
        self.lock.result(serial, message_id)
        self.client.wait(command, "done")

    def test_text(self) -> None:
        """0x8300 with the text in GBK."""
        command, message_id, serial, body = self.given("text", {"text": "Tür 7"})
        self.assertEqual((message_id, body[0]), (0x8300, 4))
        self.lock.result(serial, message_id)
        self.client.wait(command, "done")

    def test_query(self) -> None:
        """A sentence is answered by a sentence of the same head, whose rest is the answer."""
        command = self.client.command(self.device, "query", {"what": "firmware"})
        self.assertEqual(self.lock.next_command(), f"({self.device},1,001,BASE,1)".encode())
        self.lock.answer(1, "BASE", "1", "JT709C_2.31", "20260101")
        record = self.client.wait(command, "done")
        self.assertEqual(json.loads(record["answer"])["arguments"], ["JT709C_2.31", "20260101"])

    def test_under_another_version(self) -> None:
        """Whatever version the answer has, and however many digits its serial has, it is the answer."""
        for version, digits in ((2, 3), (1, 1), (999, 2), (23, 1)):
            command = self.client.command(self.device, "query", {"what": "firmware"})
            _, written, number, *_ = self.lock.next_command().split(b",")
            self.assertEqual(written, b"1")
            serial = int(number)
            self.lock.send(f"({self.device},{version},{serial:0{digits}d},BASE,1,FW_1)".encode())
            self.client.wait(command, "done")

    def test_refused(self) -> None:
        """Each result other than 0 rejects, and the reason says why."""
        for result, reason in ((1, "could not"), (2, "wrong"), (3, "not support")):
            command, message_id, serial, _ = self.given("set_parameters", {"parameters": {"0001": 60}})
            self.lock.result(serial, message_id, result)
            self.assertIn(reason, self.client.wait(command, "rejected")["reason"])

    def test_repeats(self) -> None:
        """Without an answer it is written three times, each with another serial, and then timed out."""
        command, _, first, body = self.given("locate", timeout=1)
        again = [taken_apart(self.lock.next_command()) for _ in range(2)]
        record = self.client.wait(command, "timed_out")
        self.assertEqual({one[2] for one in again}, {body})
        self.assertEqual(len({first, *(one[1] for one in again)}), 3)
        self.assertEqual(record["attempts"], "3")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 3)

    def test_late_answer_to_first(self) -> None:
        """An answer to any of the repeats counts."""
        command, message_id, first, _ = self.given("text", {"text": "hello"}, timeout=1)
        self.lock.next_command()
        self.lock.result(first, message_id)
        self.client.wait(command, "done")

    def test_restart_once(self) -> None:
        """A restart is written once; without an answer it has timed out."""
        command, message_id, _, body = self.given("restart", timeout=1)
        self.assertEqual((message_id, body[0]), (0x8105, 4))
        self.client.wait(command, "timed_out")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1)

    def test_repeated_after_reconnect(self) -> None:
        """Asked, and the connection is lost: the lock is asked again when it is back."""
        command, _, first, _ = self.given("locate")
        self.lock.connect(self.daemon)
        _, second, _ = taken_apart(self.lock.next_command())
        self.assertNotEqual(first, second)
        self.lock.send(self.lock.frame(0x0201, second.to_bytes(2, "big") + location()))
        self.client.wait(command, "done")

    def test_repeated_after_crash(self) -> None:
        """Asked, and the gateway dies: the lock is asked again by the next one."""
        command, _, first, _ = self.given("locate")
        self.daemon.kill()
        self.daemon.start()
        self.lock.connect(self.daemon)
        _, second, _ = taken_apart(self.lock.next_command())
        self.assertNotEqual(first, second)
        self.lock.send(self.lock.frame(0x0201, second.to_bytes(2, "big") + location()))
        self.client.wait(command, "done")

    def test_one_at_a_time(self) -> None:
        """The next command is written when the one before has its answer, in the order they were given in."""
        commands = [self.client.command(self.device, "text", {"text": f"{n}"}) for n in range(4)]
        for number, command in enumerate(commands):
            message_id, serial, body = taken_apart(self.lock.next_command())
            self.assertEqual(body[1:], str(number).encode())
            self.lock.beat()
            self.assertEqual(len(self.lock.commands), number + 1)
            self.lock.result(serial, message_id)
            self.client.wait(command, "done")

    def test_raw(self) -> None:
        """With --allow-raw the bytes go out as they are; they count as physical, and aren't shown."""
        sentence = f"({self.device},1,777,ELOCK,9,secret)"
        command = self.client.command(self.device, "raw", {"sentence": sentence}, timeout=1)
        self.assertEqual(self.lock.next_command(), sentence.encode())
        self.lock.answer(777, "ELOCK", "9", "1")
        record = self.client.wait(command, "unconfirmed")
        self.assertEqual(record["physical"], "true")
        self.assertNotIn("secret", json.dumps(self.client.events("command", self.device)))
        frame = self.lock.frame(0x8201)
        command = self.client.command(self.device, "raw", {"hex": frame.hex()}, timeout=1)
        self.assertEqual(self.lock.next_command(), frame)
        self.client.wait(command, "uncertain")
