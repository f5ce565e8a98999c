"""jt709c decode: what people and scripts see of frames."""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.frame_input import FrameDecoder, to_bytes
from jt709c_gateway.cli.main import cli
from jt709c_gateway.protocol import answers, jt808, jt808_messages, sentences
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import LockOptions
from tests.vectors import binary, location, part

DEVICE = "794308010679"
WIRE = bytes.fromhex(DEVICE)
HEARTBEAT = jt808.encode(jt808.HEARTBEAT, WIRE, 7, bytes([83, 25, 0]))
FIRMWARE = b"(794308010679,1,001,BASE,1,V2.31)"
BAD_CHECK = HEARTBEAT[:-2] + bytes([HEARTBEAT[-2] ^ 1]) + b"\x7e"


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, ["decode", *arguments], input=stdin)


def run_jsonl(*arguments, stdin=None):
    result = run("--jsonl", *arguments, stdin=stdin)
    return [json.loads(line) for line in result.stdout.splitlines()], result.exit_code


def unlock_report(password="471100"):
    """A location whose lock event holds a password."""
    options = LockOptions(password=password, register=False, ask_time=0, dynamic_password=False)
    lock = VirtualLock(DEVICE, options)
    lock.start(1_800_000_000)
    lock.connected(1_800_000_000)
    command = sentences.grouped(DEVICE, 1, "ELOCK", "1", "1", password)
    return lock.receive(command, 1_800_000_000)[-1]


class Lines(SynchronousTestCase):
    def test_a_frame_is_one_line_with_its_events_and_its_answer(self):
        (line,), status = run_jsonl(HEARTBEAT.hex())
        self.assertEqual(list(line), ["frame", "dialect", "events", "answer", "error", "to_lock"])
        self.assertEqual((line["frame"], line["dialect"], line["error"]), (HEARTBEAT.hex(), "jt709", None))
        identity = jt808.identify(WIRE)
        self.assertEqual(line["answer"], answers.general_answer(identity, 7, jt808.HEARTBEAT).hex())
        (event,) = line["events"]
        self.assertEqual((event["kind"], event["device"], event["serial"]), ("heartbeat", DEVICE, 7))
        self.assertEqual((event["id"], event["received_at"], event["gateway"]), (None, None, None))
        self.assertEqual(event["data"], {"battery_percent": 83, "gsm_signal": 25, "status_bits": 0})
        self.assertEqual(status, 0)

    def test_several_frames_in_one_text_are_several_lines(self):
        lines, status = run_jsonl((HEARTBEAT + FIRMWARE + HEARTBEAT).hex())
        self.assertEqual([line["dialect"] for line in lines], ["jt709", "sentence", "jt709"])
        self.assertEqual((lines[1]["frame"], lines[1]["answer"]), (FIRMWARE.hex(), None))
        self.assertEqual(status, 0)

    def test_what_goes_to_a_lock_is_told_from_its_reports(self):
        """Answers of a lock that look like its commands are not taken for them."""
        unlock = sentences.grouped(DEVICE, 1, "ELOCK", "1", "1", "888888")
        replies = [
            sentences.grouped(DEVICE, 1, "ELOCK", *said) for said in (("1", "1"), ("1", "0", "3"), ("4", "1"))
        ]
        dynamic = sentences.grouped(DEVICE, 1, "ELOCK", "3", "123456")
        general = answers.general_answer(jt808.identify(WIRE), 7, jt808.HEARTBEAT)
        given = [unlock, general, *replies, dynamic, HEARTBEAT]
        lines, status = run_jsonl(b"".join(given).hex())
        self.assertEqual([line["to_lock"] for line in lines], [True, True, *([False] * 5)])
        self.assertEqual(status, 0)
        (line,), status = run_jsonl(b"(P43,1,888888)".hex())
        self.assertEqual((line["to_lock"], status), (True, 1))
        self.assertIn("goes to a lock", line["error"])
        shown = run(unlock.decode()).stdout
        self.assertIn("to the lock", shown.splitlines()[0])
        self.assertIn("a command or an answer, not a report", shown)
        self.assertNotIn("reply", shown)

    def test_malformed_bytes_have_a_reason_no_events_and_status_1(self):
        lines, status = run_jsonl(BAD_CHECK.hex(), HEARTBEAT.hex())
        self.assertEqual([line["error"] is None for line in lines], [False, True])
        self.assertEqual((lines[0]["events"], lines[0]["answer"], lines[0]["dialect"]), ([], None, "jt709"))
        self.assertIn("check byte", lines[0]["error"])
        self.assertEqual(status, 1)

    def test_the_dialect_of_malformed_bytes_is_that_of_their_first_byte(self):
        texts = ("0102030405060708", "7e00020000", "2437393433303830", "28373934333038")
        self.assertEqual(
            [run_jsonl(text)[0][0]["dialect"] for text in texts], [None, "jt709", "jt701", "sentence"]
        )

    def test_time_requests_are_answered_with_the_present_time(self):
        (line,), _ = run_jsonl(b"(794308010679,1,004,BASE,2,TIME)".hex())
        answer = bytes.fromhex(line["answer"]).decode()
        self.assertTrue(answer.startswith("(794308010679,1,004,BASE,2,2"))
        now = datetime(2026, 11, 22, 10, 15, 7, tzinfo=UTC)
        frame = jt808.encode(jt808.TIME_REQUEST, WIRE, 1, b"")
        (result,) = FrameDecoder(now=lambda: now).decode(frame)
        self.assertIn("07ea0b160a0f07", result.answer)

    def test_passwords_are_masked_unless_asked_for(self):
        frame = unlock_report()
        dynamic = b"(794308010679,1,001,ELOCK,3,471100)"
        for secrets in ((), ("--secrets",)):
            lines, _ = run_jsonl((frame + dynamic).hex(), *secrets)
            text = json.dumps(lines)
            shown = b"471100".hex() in text or "471100" in text
            self.assertEqual(shown, bool(secrets))
            self.assertEqual(lines[0]["frame"], lines[0]["events"][0]["raw"])
            self.assertEqual(bytes.fromhex(lines[1]["frame"]).decode(), lines[1]["events"][0]["raw"])
        self.assertEqual((lines[0]["frame"], lines[1]["frame"]), (frame.hex(), dynamic.hex()))

    def test_passwords_that_no_event_has(self):
        """They are shown in a line: of the keypad, of the access point, of a body, and dynamic ones."""
        keypad = b"\x0b\x08\x01s3cr3t\x01"
        parameters = jt808_messages.encode_parameters(5, {0x12: b"hush99", 0x13: b"host", 0x16: b"~}"})
        for frame, expected in (
            (binary(0x0200, location(keypad)), "s3cr3t"),
            (part(0x0200, location(keypad), 1, 1, 1), "s3cr3t"),
            (binary(0x0104, parameters), "hush99, ~}"),
            (binary(0x0102, keypad), "s3cr3t"),
            (binary(0x0F05, keypad), "s3cr3t"),
            (binary(0x0200, location(b"\x0b\x08\x01\xff\x00crt1\x01")), "ff0063727431"),
            (b"(8000620011,P52,2,113271)", "113271"),
            (b"(794308010679,1,001,ELOCK,3,471100)", "471100"),
        ):
            (line,), _ = run_jsonl(frame.hex(), "--secrets")
            self.assertEqual(line["passwords"], expected)
            self.assertIn(f"passwords  {expected}\n", run("--secrets", frame.hex()).output)
            (line,), _ = run_jsonl(frame.hex())
            self.assertNotIn("passwords", line)
            self.assertNotIn(expected, run(frame.hex()).output)

    def test_an_answer_that_repeats_a_password_is_masked(self):
        sentence = b"(8000620011,P52,2,113271)"
        for secrets, expected in (((), b"(P52,2,******)"), (("--secrets",), b"(P52,2,113271)")):
            (line,), _ = run_jsonl(sentence.hex(), *secrets)
            self.assertEqual(bytes.fromhex(line["answer"]), expected)

    def test_a_password_in_a_broken_frame_is_masked_too(self):
        frame = bytearray(unlock_report())
        frame[-2] ^= 1
        lines, status = run_jsonl(bytes(frame).hex())
        self.assertNotIn(b"471100".hex(), json.dumps(lines))
        self.assertEqual(status, 1)

    def test_parts_of_a_split_message_come_together_across_lines(self):
        body = bytes(40)
        parts = [
            jt808.pack(
                bytes.fromhex("0200")
                + (0x2000 | len(piece)).to_bytes(2, "big")
                + WIRE
                + number.to_bytes(2, "big")
                + bytes([0, 2, 0, number])
                + piece
            )
            for number, piece in ((1, body[:20]), (2, body[20:]))
        ]
        lines, status = run_jsonl("--file", "-", stdin="\n".join(part.hex() for part in parts))
        self.assertEqual([len(line["events"]) for line in lines], [0, 1])
        self.assertEqual(([line["error"] for line in lines], status), ([None, None], 0))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=1, max_size=120), st.booleans())
    def test_arbitrary_bytes_are_decoded_or_explained(self, data, secrets):
        for result in FrameDecoder(secrets).decode(data):
            self.assertTrue(result.error is None or (not result.events and result.answer is None))
            bytes.fromhex(result.frame)


class Input(SynchronousTestCase):
    def test_how_hex_is_written_does_not_matter(self):
        text = HEARTBEAT.hex(" ")
        for form in (
            text,
            text.upper(),
            text.replace(" ", ":"),
            "0x" + text.replace(" ", ", 0x"),
            f"  {text}\n",
        ):
            self.assertEqual(to_bytes(form, ""), HEARTBEAT)

    def test_hex_cut_into_many_arguments_is_one_text(self):
        self.assertEqual(len(run_jsonl(*HEARTBEAT.hex(" ").split())[0]), 1)

    def test_a_long_frame_may_be_given_in_pieces(self):
        """Arguments that each begin like a frame are frames."""
        text = HEARTBEAT.hex()
        self.assertEqual(run_jsonl(text[:14], text[14:])[0], run_jsonl(text)[0])
        self.assertEqual(len(run_jsonl(text, text)[0]), 2)

    def test_a_sentence_may_be_given_as_text(self):
        (line,), _ = run_jsonl(FIRMWARE.decode())
        self.assertEqual(line["events"][0]["data"]["word"], "BASE")

    def test_lines_of_a_file_may_be_hex_json_empty_or_remarks(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "frames"
            lines = ["# a remark", "", HEARTBEAT.hex(), json.dumps({"frame": FIRMWARE.hex(), "note": 1})]
            path.write_text("\r\n".join(lines))
            self.assertEqual(len(run_jsonl("--file", str(path))[0]), 2)

    def test_standard_input_by_either_name(self):
        for arguments in (("-",), ("--file", "-")):
            result = subprocess.run(
                [sys.executable, "-m", "jt709c_gateway.cli.main", "decode", "--jsonl", *arguments],
                input=HEARTBEAT.hex().encode(),
                capture_output=True,
                timeout=30,
            )
            self.assertEqual((result.returncode, result.stdout.count(b"\n")), (0, 1), result.stderr)

    def test_mistakes_are_one_line_and_status_2(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "frames"
            path.write_text(f"{HEARTBEAT.hex()}\n{{nonsense\n")
            for arguments, word in (
                (("xyz",), "not hex"),
                (("7e0",), "odd number"),
                ((), "nothing to decode"),
                (("7e", "--file", "x"), "not both"),
                (("--file", str(Path(directory) / "absent")), "No such file"),
                (("--file", directory), "directory"),
                (("--file", str(path)), "line 2"),
            ):
                result = run(*arguments)
                self.assertEqual(result.exit_code, 2, arguments)
                self.assertIn(word, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)


class Tables(SynchronousTestCase):
    def test_device_fields_and_answer_are_shown(self):
        output = run(HEARTBEAT.hex(), FIRMWARE.hex()).stdout
        for text in ("frame 1", DEVICE, "battery_percent", "83", "answer  7e8001", "BASE", "none due"):
            self.assertIn(text, output)
        self.assertNotIn("\x1b", output)

    def test_malformed_frames_say_why(self):
        result = run(BAD_CHECK.hex())
        self.assertIn("malformed: the check byte", result.stdout)
        self.assertEqual(result.exit_code, 1)

    def test_what_a_lock_sends_cannot_steer_the_terminal(self):
        body = b"\x00\x00" + b"\x1b[2J\x07".ljust(5) + bytes(20 + 7 + 10) + b"\x00\x05\x1b]0;x"
        frame = jt808.encode(jt808.ATTRIBUTES, WIRE, 1, body)
        output = run(frame.hex()).stdout
        self.assertNotIn("\x1b", output)
        self.assertIn("\\x1b]0;x", output)

    def test_every_frame_of_a_virtual_lock_can_be_shown(self):
        lock = VirtualLock(DEVICE, LockOptions(card_every=2))
        lock.start(1_800_000_000)
        frames = lock.connected(1_800_000_000) + lock.tick(1_800_000_300)
        data = b"".join(frames)
        result = run(data.hex())
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stdout.count("frame "), len(Framer().feed(data)))
