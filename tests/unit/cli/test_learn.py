"""jt709c profiles learn: from a capture to a profile of one's own."""

import struct
import tomllib

from jt709c_gateway.cli.learn import capture
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.profiles import GroupedSentence, PnnSentence, load_profiles
from tests.unit.cli.test_catalogue import WithFiles

HEAD = "(794308010679,1,004,"
ASKED = f"{HEAD}ELOCK,2,1,471100)"
ANSWERED = f"{HEAD}ELOCK,2,1)"
WRITE, NOTIFY = b"\x52\x10\x00", b"\x1b\x12\x00"


def acl(value, opcode=WRITE, size=27):
    """A value as ACL packets of at most `size` bytes, and the ATT values of 20 bytes that carry it."""
    for start in range(0, len(value), 20):
        att = opcode + value[start : start + 20]
        whole = struct.pack("<HH", len(att), 4) + att
        for at in range(0, len(whole), size):
            piece = whole[at : at + size]
            yield struct.pack("<HH", 0x040 | (0x1000 if at else 0x2000), len(piece)) + piece


def connection():
    """ACL packets with who sent them."""
    for sent, text, opcode in ((True, ASKED, WRITE), (False, ANSWERED, NOTIFY)):
        for size in (27, 9):
            yield from ((sent, packet) for packet in acl(text.encode(), opcode, size))


def btsnoop(kind=1002):
    records = b""
    for sent, packet in connection():
        data = packet if kind == 1001 else b"\x02" + packet
        records += struct.pack(">IIIIQ", len(data), len(data), 0 if sent else 1, 0, 0) + data
    return b"btsnoop\0" + struct.pack(">II", 1, kind) + records


def pcap(link, packets):
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack("<IIII", 0, 0, len(one), len(one)) + one for one in packets)


def pcapng(link, packets):
    def block(kind, body):
        body += bytes(-len(body) % 4)
        length = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + length + body + length

    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    head += block(1, struct.pack("<HHI", link, 0, 65535))
    return head + b"".join(
        block(6, struct.pack("<IIIII", 0, 0, 0, len(one), len(one)) + one) for one in packets
    )


class CaptureTests(WithFiles):
    def assert_found(self, data):
        found = capture.read(data, "x")
        self.assertEqual([one.raw.decode() for one in found[:1]], [ASKED])
        self.assertEqual({one.raw.decode() for one in found}, {ASKED, ANSWERED})
        return [one.sent for one in found]

    def test_bluetooth_logs(self):
        """Values spread over packets are put together, in both forms of the log."""
        for kind in (1001, 1002):
            self.assertEqual(self.assert_found(btsnoop(kind)), [True, True, False, False])

    def test_packets(self):
        """pcap and pcapng with Bluetooth in three ways, and with a serial line."""
        both = list(connection())
        h4 = [b"\x02" + packet for _, packet in both]
        phdr = [struct.pack(">I", not sent) + b"\x02" + packet for sent, packet in both]
        monitor = [struct.pack(">HH", 0, 4 if sent else 5) + packet for sent, packet in both]
        for build in (pcap, pcapng):
            self.assert_found(build(187, h4))
            self.assertEqual(self.assert_found(build(201, phdr)), [True, True, False, False])
            self.assertEqual(self.assert_found(build(254, monitor)), [True, True, False, False])
            self.assert_found(build(147, [ASKED[:9].encode(), ASKED[9:].encode(), ANSWERED.encode()]))

    def test_logs(self):
        """As text, and as hex in pieces, with and without directions."""
        lines = f"12:00 TX {ASKED}\n12:01 RX {ANSWERED}\n"
        self.assertEqual(self.assert_found(lines.encode()), [True, False])
        asked, answered = ASKED.encode(), ANSWERED.encode()
        hexed = f"write {asked[:20].hex(' ')}\nwrite {asked[20:].hex(' ')}\nnotify {answered.hex()}\n"
        self.assertEqual(self.assert_found(hexed.encode()), [True, False])
        self.assert_found(f"{asked.hex()}\n{answered.hex()}".encode())

    def test_times_beside_hex(self):
        """Dates and times are no bytes of a sentence that is spread over lines."""
        asked, answered = ASKED.encode(), ANSWERED.encode()
        for stamp in ("2026-12-01 10:00:00.123", "2026-12-01T10:00:01Z", "01:02:03", "2026/12/01 10:00:00,5"):
            log = "".join(
                f"{stamp} {mark} {piece.hex(' ')}\n"
                for mark, whole in (("->", asked), ("<-", answered))
                for piece in (whole[:20], whole[20:])
            )
            self.assertEqual(self.assert_found(log.encode()), [True, False], stamp)

    def test_dumps(self):
        """Offsets and the text beside the bytes belong to no sentence, whatever program made the dump."""
        said = b"\x02\xff" + ASKED.encode() + b"\r\n(P43,1)" + ANSWERED.encode() + b"\r\n"
        for width, group, offset, gap, ends in (
            (16, 1, "{:08x}  ", " ", "  |{}|"),
            (16, 2, "{:08x}: ", "", "  {}"),
            (8, 2, "{:08x}: ", "", "  {}"),
            (8, 1, "{:08x}: ", "", "  {}"),
            (32, 2, "{:08x}: ", "", "  {}"),
            (16, 4, "{:08x}: ", "", "  {}"),
            (16, 1, "{:06x} ", "", "  >{}<"),
            (16, 1, "{:07o} ", "", ""),
            (16, 1, "{:07d} ", "", ""),
            (16, 1, "{:04x}   ", "", "   {}"),
        ):
            lines = []
            for at in range(0, len(said), width):
                row = said[at : at + width]
                groups = [row[start : start + group].hex() for start in range(0, len(row), group)]
                if gap:
                    groups.insert(8, "")
                text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
                lines.append(offset.format(at) + " ".join(groups).rstrip() + ends.format(text))
            found = capture.read("\n".join(lines).encode(), "x")
            expected = [ASKED, "(P43,1)", ANSWERED]
            self.assertEqual([one.raw.decode() for one in found], expected, lines[:3])

    def test_broken_files(self):
        """One line, whatever is broken, and no sentence made up."""
        for data in (btsnoop()[:-5], b"btsnoop\0", pcap(187, [b"x"])[:-1], bytes.fromhex("a1b2c3d4")):
            result = self.run_cli("profiles", "learn", self.file(data, "x.bin"))
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertEqual(result.stderr.count("\n"), 1)


class LearnTests(WithFiles):
    def learn(self, *arguments, log=f"TX {ASKED}\nRX {ANSWERED}\n"):
        return self.run_cli("profiles", "learn", self.file(log, "x.log"), *arguments)

    def write(self, *arguments, log=f"TX {ASKED}\n", command="unlock"):
        path = self.directory / "own.toml"
        head = ("--command", command, "--name", "depot", "--source", 'app "1.4"', "-o", str(path))
        return self.learn(*head, *arguments, log=log), path

    def test_what_is_shown(self):
        """Word, number and arguments beside the profile's, without the password."""
        result = self.learn()
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("1. command  ELOCK,2,1,******", result.stdout)
        self.assertIn("unlock, assumed: ELOCK,1,1,{password}; number 2 here, 1 there", result.stdout)
        self.assertIn("2. answer  ELOCK,2,1", result.stdout)
        self.assertNotIn("471100", result.output)

    def test_a_word_that_the_profile_has_not(self):
        """It is said so, and what may be a password isn't shown either."""
        result = self.learn(log=f"{HEAD}LOCK,7,471100)")
        self.assertIn("LOCK,7,******", result.stdout)
        self.assertIn("no command of the profile has the word LOCK", result.stdout)

    def test_commands_of_several_sentences(self):
        """Each sentence is compared; a profile would need all of them."""
        log = "TX (P24,1,1,1,yard)\nTX (P29,1,1,1,1,11400.6230,2233.6325)\nTX (P31)\n"
        result = self.learn("--dialect", "jt701", log=log)
        self.assertIn("set_fence (nodes), documented: P24,1,{id},{on},{name}; the same", result.stdout)
        self.assertIn("set_fence (nodes), documented: P29,1,{id},{nodes.pages}; 6 ", result.stdout)
        self.assertIn("set_fence, documented: P31; the same", result.stdout)
        result, path = self.write("--dialect", "jt701", log=log, command="set_fence")
        self.assertEqual((result.exit_code, path.exists()), (2, False))
        self.assertNotIn("set_fence,", result.stderr)

    def test_a_profile(self):
        """It is the profile's command with the captured sentence, loads, and holds no password."""
        result, path = self.write("--firmware", "JT709C_2*")
        self.assertEqual(result.exit_code, 0, result.output)
        text = path.read_text()
        self.assertNotIn("471100", text + result.output)
        self.assertEqual(tomllib.loads(text)["source"], 'app "1.4"')
        profiles = load_profiles(files=[path])
        profile = profiles.profiles["depot"]
        checked = profiles.validate(Command("i", "1", "unlock", {"password": "888888"}), profile)
        self.assertEqual(checked.render(0), GroupedSentence("ELOCK", 2, ("1", "888888")))
        self.assertEqual((checked.spec.provenance, checked.spec.source), ("documented", 'app "1.4"'))
        self.assertTrue(checked.spec.physical)
        self.assertEqual(profile.firmware, ("JT709C_2*",))
        self.assertEqual(profile.commands["seal"].choose({}).provenance, "assumed")

    def test_another_number_of_arguments(self):
        """The password is known by its length, by the file with it, or by its place."""
        log = f"{HEAD}LOCK,7,12,0,471100,3)"
        for arguments in (
            (),
            ("--argument", "3=password"),
            ("--password-file", self.file("471100\n", "pw")),
        ):
            result, path = self.write("--force", *arguments, log=log)
            self.assertEqual(result.exit_code, 0, result.output)
            template = tomllib.loads(path.read_text())["commands"]["unlock"]["template"]
            self.assertEqual(template, {"sentence": "LOCK,7,12,0,{password},3"})

    def test_two_passwords(self):
        """The new one and the old one, in the order of the file."""
        path = self.file("471100\n888888\n", "pw")
        log = f"{HEAD}ELOCK,5,888888,0,471100)"
        result, own = self.write("--password-file", path, log=log, command="set_password")
        self.assertEqual(result.exit_code, 0, result.output)
        template = tomllib.loads(own.read_text())["commands"]["set_password"]["template"]
        self.assertEqual(template, {"sentence": "ELOCK,5,{old},0,{new}"})

    def test_masters(self):
        """A `Pnn` sentence for the jt701 dialect."""
        result, path = self.write("--dialect", "jt701", log="(P43,1,471100)")
        self.assertEqual(result.exit_code, 0, result.output)
        profiles = load_profiles(files=[path])
        command = Command("i", "1", "unlock", {"password": "888888"})
        checked = profiles.validate(command, profiles.profiles["depot"])
        self.assertEqual(checked.render(0), PnnSentence("P43,1,888888"))

    def test_what_may_be_a_password_is_not_written(self):
        """An argument that no parameter explains stops it, and nothing is there then."""
        result, path = self.write(log=f"{HEAD}ELOCK,4,s3cr3t)", command="seal")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("argument 1, of 6 characters, may be a password and is not written", result.stderr)
        self.assertNotIn("s3cr3t", result.output)
        self.assertFalse(path.exists())

    def test_a_file_that_is_there_stays(self):
        """Without --force, and also with it when the new one would be no good."""
        _, path = self.write()
        before = path.read_text()
        for arguments, said in (
            ((), "is there already; expected another file, or --force"),
            (("--force", "--name", "a b"), "the profile would be no good: name: is 'a b'"),
            (("--force", "--firmware", "x", "--command", "dance"), "--command: a name of 5 characters"),
            (("--force", "--sentence", "9"), "--sentence 9: expected a number from 1 to 1"),
            (
                ("--force", "--argument", "s3cr3t"),
                "--argument: text of 6 characters; expected PLACE=PARAMETER",
            ),
        ):
            result, _ = self.write(*arguments)
            self.assertEqual(result.exit_code, 2, arguments)
            self.assertIn(said, result.stderr)
            self.assertEqual(path.read_text(), before)
        self.assertEqual(sorted(one.name for one in self.directory.iterdir()), ["own.toml", "x.log"])

    def test_standard_input(self):
        """Sentences can be typed in."""
        from click.testing import CliRunner

        from jt709c_gateway.cli.main import cli

        result = CliRunner().invoke(cli, ["profiles", "learn"], input=ASKED + "\n")
        self.assertIn("1. command  ELOCK,2,1,******", result.stdout)
