"""Frames of every dialect taken apart, sound and broken."""

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.dissector import Explanation, Field, explain, explain_all, walk
from jt709c_gateway.protocol import answers, jt701, jt808, sublock
from tests.unit.protocol.test_dialect_jt701 import frame as dollar
from tests.unit.protocol.test_dialect_jt701 import record
from tests.unit.protocol.test_dialect_sublock import jt709 as sublock_lock
from tests.vectors import DEVICE, binary, load, location, part

REAL = {vector["frame"][:1]: vector["frame"] for vector in reversed(load("real.jsonl"))}
EVENT = bytes.fromhex("0b0803") + b"s3cr3t\x01"


def find(fields: Iterable[Field], name: str) -> Field:
    """The first field of a name."""
    return next(each for _, each in walk(fields) if each.name == name)


def told(explanation: Explanation) -> dict[str, str]:
    """Name and meaning of every field."""
    return {each.name: each.meaning for _, each in walk(explanation.fields)}


def wrong(explanation: Explanation) -> dict[str, str]:
    """Name and problem of every field that has one."""
    return {each.name: each.problem for _, each in walk(explanation.fields) if each.problem}


class BinaryTests(SynchronousTestCase):
    """`7E` frames from locks."""

    def check(self, frame: bytes, title: str, **meanings: str) -> Explanation:
        explanation = explain(frame)
        self.assertEqual((explanation.title, explanation.broken), (title, False), wrong(explanation))
        found = told(explanation)
        self.assertEqual({name: found.get(name) for name in meanings}, meanings)
        return explanation

    def test_messages(self) -> None:
        """Every message id and its body."""
        self.check(binary(0x0002), "heartbeat", message_id="heartbeat")
        self.check(
            binary(0x0002, b"\x53\x19\x07"), "heartbeat", battery_percent="83 %", gsm_signal="signal 25"
        )
        self.check(binary(0x0100, bytes(5)), "registration")
        self.check(binary(0x0102, b"123"), "authentication")
        self.check(binary(0x0003), "logout")
        self.check(binary(0x0109), "time request")
        self.check(
            binary(0x0001, bytes.fromhex("0007810503")), "terminal's answer",
            answered_serial="serial 7", answered_id="control", result="unsupported",
        )  # fmt: skip
        self.check(
            binary(0x0201, b"\x00\x07" + location()), "answer to a location query", answered_serial="serial 7"
        )
        self.check(binary(0x0900, b"abc"), "message 0900", message_id="not known", data="not taken apart")
        body = b"\x00\x01JOINT" + b"JT709C".ljust(20, b"\0") + b"0000007" + bytes(10) + b"\x02v1\x03abc"
        attributes = self.check(binary(0x0107, body), "terminal attributes")
        self.assertEqual(find(attributes.fields, "model").value, "JT709C")
        self.assertEqual(find(attributes.fields, "firmware").value, "abc")
        parameters = self.check(
            binary(0x0104, bytes.fromhex("0007 02 00000001 04 0000003c 00000013 01 61")), "parameters",
            count="2 parameters",
        )  # fmt: skip
        self.assertEqual(find(find(parameters.fields, "parameter_0001").children, "value").value, "0000003c")

    def test_commands(self) -> None:
        """What the gateway sends: never answered, and no event."""
        identity = jt808.identify(DEVICE)
        for frame, title in (
            (answers.general_answer(identity, 7, 0x0200), "general answer"),
            (answers.registration_answer(identity, 7), "answer to a registration"),
            (answers.jt705_answer(identity, 0x5501), "short answer"),
            (binary(0x8109, bytes.fromhex("07ea 0b 16 0a 0f 07 00")), "answer to a time request"),
            (binary(0x8103, bytes.fromhex("01 00000012 03 616263")), "set parameters"),
            (binary(0x8104), "query of all parameters"),
            (binary(0x8105, b"\x04"), "control"),
            (binary(0x8106, bytes.fromhex("02 00000001 00000013")), "query of parameters"),
            (binary(0x8107), "query of terminal attributes"),
            (binary(0x8201), "location query"),
            (binary(0x8300, b"\x04hello"), "text"),
        ):
            explanation = self.check(frame, title)
            self.assertEqual((explanation.direction, explanation.device), ("down", DEVICE.hex()))
            self.assertEqual((explanation.events, explanation.answer), ([], None))
        self.assertEqual(told(explain(binary(0x8105, b"\x04")))["word"], "restart")
        self.assertEqual(told(explain(binary(0x8300, b"\x05hi")))["flags"], "urgent, display")

    def test_headers(self) -> None:
        """A 2019 header, an IMEI as a number, encryption, and a serial of one byte."""
        long = binary(0x0002, wire=b"\x01" + bytes.fromhex("00000000794308010679"))
        self.check(long, "heartbeat", version="version of the header", terminal_id="device 794308010679")
        number = 12345678901234
        imei = explain(binary(0x0002, wire=number.to_bytes(6, "big")))
        self.assertEqual((imei.imei, imei.device), ("123456789012347", "123456789012347"))
        secret = jt808.pack(bytes.fromhex("02000402") + DEVICE + b"\x00\x01ab")
        self.check(secret, "location report", data="encrypted")
        self.assertEqual(find(explain(REAL[b"\x7e"]).fields, "attributes").bits[0].value, 77)

    def test_2019_header_of_an_unfinished_frame(self) -> None:
        """However much of the end is missing, the id has ten bytes, whatever its version and digits."""
        for wire, device in (
            ("0100000000123456789012", "123456789012"),
            ("0112345678901234567890", "12345678901234567890"),
            ("0299999999999999999999", "99999999999999999999"),
        ):
            frame = jt808.encode(0x0200, bytes.fromhex(wire), 5, location())
            for missing in (0, 1, 2, 3, 20):
                self.assertEqual(explain(frame[: len(frame) - missing]).device, device, missing)

    def test_items(self) -> None:
        """Every item, those of a length that is not read, and bits with and without a name."""
        items = bytes.fromhex(
            "da03000705 db020009 0f0210c8 f8020320 fc0107 f40104 fd0901cc0100000a0b1234 d4020164 f8 02 ffff"
        )
        body = location(items, status=0x02100082, alarm_bits=0x80 | 1 << 30)
        explanation = self.check(
            binary(0x0200, body), "location report",
            rope="7 rope cuts, locked", reports_sent="9 reports", fence_id="fence 7", network_generation="4G",
            cell="network 460-1, cell 2571, LAC 4660", item_d4="not understood", temperature_c="none",
            alarm_bits="low_battery, bit_30",
        )  # fmt: skip
        temperatures = [each.meaning for _, each in walk(explanation.fields) if each.name == "temperature_c"]
        self.assertEqual(temperatures[::2], ["-20.0 °C", "30.0 °C", "none"])
        names = [bits.name for bits in find(explanation.fields, "status_bits").bits]
        self.assertEqual(names, ["gnss_fix", "south", "west", "back_cover_open", "rope_open", "wake_source"])
        self.assertEqual(find(explanation.fields, "rope_status").bits[2].name, "sim")

    def test_stored(self) -> None:
        """Each location of a 0x0704 is a group with its own items."""
        body = location(bytes.fromhex("d40164"))
        frame = binary(0x0704, b"\x00\x02\x01" + 2 * (len(body).to_bytes(2, "big") + body))
        explanation = self.check(frame, "stored locations", type="stored in a blind zone")
        self.assertEqual(explanation.events, ["location", "location"])
        second = find(explanation.fields, "location_2")
        self.assertEqual(find(second.children, "battery_percent").offset, second.offset + 2 + 28)

    def test_split(self) -> None:
        """The body is read with the last part, whichever comes last, in lines of their own."""
        body = location(bytes.fromhex("d40164"))
        frames = [part(0x0200, body[:10], 5, 2, 1), part(0x0200, body[10:], 6, 2, 2)]
        first, second = explain_all(b"".join(reversed(frames)))
        self.assertEqual(
            (first.title, second.title), ("location report, part 2 of 2", "location report, part 1 of 2")
        )
        self.assertEqual((first.events, first.whole), ([], []))
        self.assertEqual(second.events, ["location"])
        self.assertEqual(find(second.whole, "battery_percent").offset, 28)
        self.assertEqual(bytes.fromhex(second.answer or "").count(b"\x7e"), 4)

    def test_without_escapes(self) -> None:
        """A 0x5501 with a flag in its body, as real units send it, and one that is escaped."""
        frame = REAL[b"\x7e"]
        jt705 = next(vector["frame"] for vector in load("real.jsonl") if vector["frame"][1] == 0x55)
        data = jt705[1:-2].replace(b"\x2e", b"\x7e", 1)
        raw = b"\x7e" + data + bytes([jt808.checksum(data)]) + b"\x7e"
        explanation = self.check(raw, "location report")
        self.assertEqual((explanation.dialect, explanation.length), ("jt705", len(jt705)))
        escaped = binary(0x0200, location(altitude_m=0x7E))
        field = find(explain(escaped).fields, "altitude_m")
        self.assertEqual((field.raw, field.value, field.offset), ("007d02", 126, 29))
        self.assertEqual(find(explain(escaped).fields, "speed_kmh").offset, 32)
        self.assertFalse(explain(frame).broken)

    def test_broken(self) -> None:
        """The field where a frame breaks says what was expected and what was found."""
        good = binary(0x0200, location(bytes.fromhex("d40164")))
        pack = jt808.pack
        for frame, name, problem in (
            (good[:-2] + b"\x00\x7e", "check", "expected c4, found 00"),
            (good.replace(b"\xd4", b"\x7d\x05"), "id", "expected 01 or 02 behind 7d, found 05"),
            (good[:30], "altitude_m", "expected 2 bytes of altitude_m, found 1"),
            (good[:13], "attributes", "expected a body of 31 bytes, found 0"),
            (good[:5], "header", "expected 6 bytes of terminal_id, found the end"),
            (good[:-1], "check", "expected 7e behind it, found the end"),
            (good + b"\x00", "left_over", "expected the end, found 1 byte more"),
            (good[:-3] + good[-2:], "attributes", "expected a body of 31 bytes, found 30"),
            (pack(good[1:-2] + b"xy"), "left_over", "expected the check byte, found 2 bytes more"),
            (b"\x7e\x7e", "flag", "expected 2 bytes of message_id, found the end"),
            (binary(0x0200, location(b"\xd5\x07")), "length", "expected 7 bytes behind it, found 0"),
            (
                binary(0x0200, location(b"\xd5")), "left_over",
                "expected an item's id, length and value, found 1 byte more",
            ),
            (binary(0x0200), "header", "expected 4 bytes of alarm_bits, found the end"),
            (binary(0x0109, b"x"), "left_over", "expected the end, found 1 byte more"),
            (
                binary(0x0704, b"\x00\x02\x01\x00\x1c" + location()), "body",
                "expected 2 bytes of length, found the end",
            ),
            (binary(0x0704, b"\x00\x00\x01"), "count", "expected 1 location or more, found 0"),
            (
                binary(0x0002, wire=b"\xff" * 6), "terminal_id",
                "expected decimal digits, or an IMEI as a number, found ffffffffffff",
            ),
        ):  # fmt: skip
            explanation = explain(frame)
            self.assertTrue(explanation.broken, frame)
            self.assertEqual(wrong(explanation).get(name), problem, wrong(explanation))

    def test_cut_off_event(self) -> None:
        """A lock event that runs past the end hides what there is of its password."""
        explanation = explain(binary(0x0200, location(EVENT[:6])))
        self.assertEqual(find(explanation.fields, "password").raw, "2a2a2a")
        self.assertEqual(wrong(explanation), {"length": "expected 8 bytes behind it, found 4"})


class DollarTests(SynchronousTestCase):
    """`$` frames."""

    def test_lengths(self) -> None:
        """Records of every length: each has the fields that end within it, and its serial last."""
        for size in jt701.SIZES:
            explanation = explain(dollar(record(length=size + 1)))
            self.assertFalse(explanation.broken, wrong(explanation))
            names = [child.name for child in find(explanation.fields, "record").children]
            self.assertEqual(names[-1], "serial")
            for name, end in (
                ("battery_percent", 29), ("gsm_signal", jt701.SIGNAL_END), ("fence_id", jt701.FENCE_END),
                ("extended_status", jt701.EXTENDED_END), ("mnc_low", jt701.FULL_END),
            ):  # fmt: skip
                self.assertEqual(name in names, size >= end)

    def test_several(self) -> None:
        """Several records, with a serial each or with one for all."""
        each = explain(dollar(record(serial=1), record(serial=2)))
        self.assertEqual([name for name in self.names(each) if name == "record"], ["record"] * 2)
        self.assertEqual((each.events, each.broken), (["location"] * 2, False))
        shared = explain(dollar(record()[:-1], record()))
        self.assertEqual(self.names(shared)[-1], "serial")
        self.assertEqual(told(shared)["serial"], "serial of all records")
        longer = explain(dollar(record()[:-1] + b"xy" + b"\x07"))
        self.assertEqual(find(longer.fields, "value").raw, "7879")

    def names(self, explanation: Explanation) -> list[str]:
        return [child.name for child in find(explanation.fields, "data").children]

    def test_broken(self) -> None:
        """Data that end early, can't be divided, or hold no place."""
        good = REAL[b"$"]
        sizes = "expected records of 30, 35, 36, 39, 52 bytes, found "
        for frame, name, problem in (
            (good[:27], "length", "expected 52 bytes of data, found 17"),
            (good[:28], "odometer_km", "expected 4 bytes of odometer_km, found 1"),
            (good[:5], "device", "expected 5 bytes of device, found 4"),
            (good + b"x", "left_over", "expected the end, found 1 byte more"),
            (dollar(record()[:20]), "odometer_km", "expected 4 bytes of odometer_km, found 3"),
            (dollar(record() + record()[:17]), "left_over", f"{sizes}69 bytes"),
            (dollar(b"\xff" * 52), "data", f"{sizes}52 bytes"),
            (good[:1] + b"\xff" + good[2:], "device", "expected decimal digits, found ff00620011"),
        ):  # fmt: skip
            self.assertEqual(wrong(explain(frame)).get(name), problem, wrong(explain(frame)))


class SentenceTests(SynchronousTestCase):
    """Sentences."""

    def test_forms(self) -> None:
        """Title, direction and the arguments by name, each with its comma."""
        for frame, title, direction, names in (
            (b"(123456,@JT)", "heartbeat", "up", "device word"),
            (b"(123456,P22,2)", "time", "up", "device word operation"),
            (b"(123456,P43,1,0)", "unlock with the static password", "up", "device word result wrong_tries"),
            (b"(123456,P01,V1,90)", "firmware", "up", "device word firmware battery_percent"),
            (b"(123456,P77,1)", "sentence", "up", "device word argument"),
            (b"(P69,0,24)", "acknowledgement", "down", "word operation serial"),
            (b"(P35)", "acknowledgement to an older unit", "down", "word"),
            (b"(P41,1,1,2,00001,00002)", "RFID cards", "down", "word operation action count card card"),
            (b"(P06,1,h,8,a,,)", "server and access point", "down", "word operation host port apn apn_user"),
            (b"(123456,1,001,BASE,2,TIME)", "time", None, "device version serial group number time"),
            (b"(123456,1,001,XYZ,9)", "sentence", None, "device version serial group argument"),
            (b"(123456,1,001,WLNET,1,1,2,A,B)", "bound sub-locks", None,
             "device version serial group number function count peripheral peripheral"),
        ):  # fmt: skip
            explanation = explain(frame)
            self.assertEqual((explanation.title, explanation.direction), (title, direction))
            self.assertEqual([each.name for each in explanation.fields[1:-1]], names.split())
            self.assertFalse(explanation.broken)
        self.assertEqual(told(explain(b"(123456,P43,1,0)"))["result"], "opened")
        self.assertEqual(told(explain(b"(P22,170720020614)"))["time"], "2020-07-17 02:06:14 UTC")

    def test_sources_of_a_lock_report(self) -> None:
        """Where a source says more than the method of the event, it is named."""
        form = "(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,{},0,0008627839,0,0,24,5)"
        for source, meaning in (
            (1, "card"),
            (2, "illegal card"),
            (3, "a vehicle card is registered"),
            (5, "automatic"),
            (8, "rope pulled out"),
        ):
            self.assertEqual(told(explain(form.format(source).encode()))["code"], meaning)

    def test_sublock(self) -> None:
        """The payload is nested, and offsets count its escapes."""
        frame = sublock.encode_report(
            "8054201973", 77, sublock_lock(event=0x8008, status=0x29, card=0x28292C3D)
        )
        explanation = explain(frame)
        self.assertFalse(explanation.broken)
        found = told(explanation)
        self.assertEqual(found["event"], "unlocked_by_lora, resent")
        self.assertEqual(found["status_bits"], "unlocked, charging")
        self.assertEqual(found["rssi_dbm"], "-22 dBm")
        card = find(explanation.fields, "card")
        self.assertEqual((card.raw, card.offset), ("3d153d143d113d00", len(frame) - 9))
        self.assertEqual(find(explanation.fields, "event").bits[1].value, 1)

    def test_sublock_broken(self) -> None:
        """A payload that ends early, and one without a place."""
        for payload, name, problem in (
            (sublock_lock()[:30], "battery_volts", "expected 2 bytes of battery_volts, found 1"),
            (sublock_lock()[:40], "peripheral_type", "expected a payload of 41 or 45 bytes, found 40"),
            (b"\xff" * 40, "payload", "expected the place of the master, in decimal digits, found others"),
        ):
            frame = sublock.encode_report("8054201973", 77, payload)
            self.assertEqual(wrong(explain(frame)).get(name), problem)

    def test_broken(self) -> None:
        """No id, no end, an end that comes too late, and a lock report that says nothing."""
        for frame, name, start in (
            (b"()", "start", "expected (id,version,serial,GROUP,…) or (id,Pnn,…), found another form"),
            (b"(12a456,P45)", "device", "expected (id,version,serial,GROUP,…) or (id,Pnn,…), found another"),
            (b"(123456,1,001,BASE,1,x", "argument", "expected ) behind it, found the end"),
            (b"(123456,P45,1,2)", "word", "expected a source and a verification behind it"),
            (b"(123456,@JT" + b"x" * 1100 + b")", "end", "expected within 1024 bytes, found behind 1111"),
            (b"(123456,@JT)x", "left_over", "expected the end, found 1 byte more"),
        ):  # fmt: skip
            problems = wrong(explain(frame))
            if name == "argument":
                self.assertEqual(list(problems.values()), [start])
            else:
                self.assertTrue(problems[name].startswith(start), problems)
