"""jt709c explain: what people and tools see."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.main import cli
from jt709c_gateway.protocol import jt808
from tests.vectors import binary, load, location

REAL = load("real.jsonl")[0]["frame"]
HEARTBEAT = binary(0x0002, bytes([83, 25, 0]))
BAD_CHECK = HEARTBEAT[:-2] + bytes([HEARTBEAT[-2] ^ 1]) + b"\x7e"
EVENT = bytes.fromhex("0b0803") + b"s3cr3t\x01"


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, ["explain", *arguments], input=stdin)


def on_terminal(width, *arguments):
    """What the command prints on a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jt709c_gateway.cli.main", "explain", *arguments],
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(follower)
    pieces = []
    try:
        while piece := os.read(leader, 65536):
            pieces.append(piece)
    except OSError:
        # Linux says so when the other end of a terminal is closed.
        pass
    finally:
        os.close(leader)
    process.wait(30)
    return b"".join(pieces).decode()


class Tables(SynchronousTestCase):
    def test_a_field_is_a_line_with_offset_bytes_name_value_and_meaning(self):
        result = run(REAL.hex())
        lines = [line.split() for line in result.stdout.splitlines()]
        for line in (
            "21 01 81 95 68 latitude 25269608 25.269608° S",
            "bit 21 motor_open 1",
            "73 00 04 4a 15 cell_id 281109",
            "82 lock_event unlocked by card, card 0006437449",
            "90 97 check 97 right",
            "events location, lock",
        ):
            self.assertIn(line.split(), lines)
        self.assertIn(["answer", "7e8001000579430801067901380138020000ca7e"], lines)
        self.assertNotIn("\x1b", result.stdout)
        self.assertEqual(result.exit_code, 0)

    def test_who_sent_a_grouped_sentence_is_unknown(self):
        """A command and its answer have the same form; other frames and passwords tell the direction."""
        heading = run("(794308017777,1,001,ELOCK,1,1)").stdout.splitlines()[0]
        self.assertIn("unlock (assumed)  device 794308017777  direction unknown", heading)
        self.assertIn("from the lock", run(REAL.hex()).stdout.splitlines()[0])
        self.assertIn("to the lock", run("(794308017777,1,001,ELOCK,1,1,888888)").stdout.splitlines()[0])

    def test_what_is_nested_is_indented_by_two(self):
        output = run(REAL.hex()).stdout
        columns = []
        for name in ("body", "lock_event", "card"):
            (line,) = re.findall(f"^ *[0-9]+  [0-9a-f ]{{23}}( +){name} ", output, re.MULTILINE)
            columns.append(len(line))
        self.assertEqual([column - columns[0] for column in columns], [0, 2, 4])

    def test_a_broken_frame_says_where_and_gives_status_1(self):
        result = run(BAD_CHECK.hex())
        self.assertRegex(result.stdout, rf"expected {HEARTBEAT[-2]:02x}, found {BAD_CHECK[-2]:02x}")
        self.assertEqual(result.exit_code, 1)

    def test_garbage_between_frames_is_shown_and_gives_status_1(self):
        result = run((HEARTBEAT + b"xx" + HEARTBEAT).hex())
        self.assertEqual(result.stdout.count("heartbeat  device"), 2)
        self.assertRegex(result.stdout, "78 78 +garbage")
        self.assertEqual(result.exit_code, 1)

    def test_line_ends_between_frames_are_no_mistake(self):
        result = run((HEARTBEAT + b"\r\n" + HEARTBEAT).hex())
        self.assertRegex(result.stdout, "0d 0a +padding")
        self.assertEqual(result.exit_code, 0)

    def test_what_a_lock_sends_cannot_steer_the_terminal(self):
        body = b"\x00\x00" + b"\x1b[2J\x07".ljust(5) + bytes(20 + 7 + 10) + b"\x00\x05\x1b]0;x"
        for frame in (jt808.encode(jt808.ATTRIBUTES, bytes(6), 1, body), b"(123456,P99,\x1b[2J)"):
            self.assertNotIn("\x1b", run(frame.hex()).stdout)

    def test_colour_and_width_are_the_terminals(self):
        for width in (80, 160):
            output = on_terminal(width, REAL.hex(), HEARTBEAT.hex())
            self.assertIn("\x1b[", output)
            for line in output.splitlines():
                if "frame " not in line and "answer" not in line:
                    plain = "".join(part.partition("m")[2] for part in ("m" + line).split("\x1b["))
                    self.assertLessEqual(len(plain.rstrip("\r")), width)


class Input(SynchronousTestCase):
    def test_commands_to_a_lock_are_understood_as_text(self):
        result = run("(P43,888888)")
        self.assertIn("unlock with the static password", result.stdout)
        self.assertNotIn("888888", result.stdout)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("888888", run("(P43,888888)", "--secrets").stdout)

    def test_standard_input_and_files_are_read_as_decode_reads_them(self):
        for arguments in (("-",), ("--file", "-")):
            self.assertIn("83 %", run(*arguments, stdin=HEARTBEAT.hex(":")).stdout)
        for arguments, word in ((("xyz",), "not hex"), ((), "nothing to decode")):
            result = run(*arguments)
            self.assertEqual((result.exit_code, result.stderr.count("\n")), (2, 1))
            self.assertIn(word, result.stderr)


class Json(SynchronousTestCase):
    def lines(self, *arguments):
        return [json.loads(line) for line in run("--json", *arguments).stdout.splitlines()]

    def test_a_frame_is_one_object_with_its_tree(self):
        first, second = self.lines((HEARTBEAT + BAD_CHECK).hex())
        self.assertEqual((first["broken"], second["broken"]), (False, True))
        self.assertEqual((first["events"], second["events"]), (["heartbeat"], []))
        self.assertEqual((first["offset"], second["offset"]), (0, len(HEARTBEAT)))
        header, body = first["fields"][1:3]
        self.assertEqual((header["name"], body["name"]), ("header", "body"))
        self.assertEqual(
            body["children"][0],
            {"offset": 13, "raw": "53", "name": "battery_percent", "value": 83, "meaning": "83 %"}
            | {"problem": None, "bits": [], "children": []},
        )

    def test_passwords_are_masked_unless_asked_for(self):
        frame = binary(0x0200, location(EVENT)).hex()
        self.assertNotIn(b"s3cr3t".hex(), json.dumps(self.lines(frame)))
        self.assertIn(b"s3cr3t".hex(), json.dumps(self.lines(frame, "--secrets")))
