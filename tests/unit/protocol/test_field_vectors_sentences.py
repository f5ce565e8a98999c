"""Recorded sentences, and the cases about sentences, sub-locks and lock reports that went wrong once."""

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.vectors.lines import (
    CASES,
    FIELD,
    NOW,
    REAL,
    VENDOR,
    Line,
    case,
    check_expected,
    lines,
    messages,
    one_test_each,
    published,
)

_CASES = ("F4", "P1a", "P1b", "P3")


@one_test_each(line for line in lines(FIELD) if not line.binary)
class FieldSentenceTests(SynchronousTestCase):
    """Each sentence of `field.jsonl`."""

    def check(self, line: Line) -> None:
        """All that the line expects is there."""
        check_expected(self, line)


@one_test_each(line for line in lines(REAL) if not line.binary)
class RealSentenceTests(SynchronousTestCase):
    """Each sentence of `real.jsonl`."""

    def check(self, line: Line) -> None:
        """It is read and gets the answer that it waits for."""
        (message,) = messages(line.frame)
        self.assertNotIn("unknown", [kind for kind, _ in message.events])
        expected, given = line.expect.get("answer"), message.answer_at(NOW)
        if expected is None:
            self.assertIsNone(given)
        else:
            times = {
                "<yyyyMMddHHmmss UTC>": f"{NOW:%Y%m%d%H%M%S}",
                "<ddMMyyHHmmss UTC>": f"{NOW:%d%m%y%H%M%S}",
            }
            for mark, time in times.items():
                expected = expected.replace(mark, time)
            self.assertEqual(given, expected.encode())


@one_test_each(line for line in lines(VENDOR) if not line.binary)
class VendorSentenceTests(SynchronousTestCase):
    """Each sentence that the manufacturer's decoder has read."""

    def check(self, line: Line) -> None:
        """Device and kind are the vendor's, a question for the time is answered, and no password is told."""
        vendor, (event,) = line.data["vendor"], published(line.frame)
        (message,) = messages(line.frame)
        kind = {"BASE2": "time_request", "ELOCK3": "password"}.get(vendor["MsgType"], "reply")
        self.assertEqual((event["device"], event["kind"]), (vendor["DeviceID"], kind))
        answer = line.frame.replace(b"TIME", f"{NOW:%Y%m%d%H%M%S}".encode())
        self.assertEqual(message.answer_at(NOW), answer if kind == "time_request" else None)
        words = line.frame.decode()[1:-1].split(",")
        if kind == "password":
            self.assertEqual(message.secret, words[-1])
            self.assertNotIn(words[-1], json.dumps(event))
        elif kind == "reply":
            self.assertEqual([event["data"]["word"], *event["data"]["arguments"]], words[3:])


@one_test_each(line for line in lines(CASES) if line.data["name"].startswith(_CASES))
class CaseTests(SynchronousTestCase):
    """Each case is read without a complaint, as something that is known."""

    def check(self, line: Line) -> None:
        """One report comes of it."""
        (message,) = messages(line.frame)
        self.assertTrue(message.report)
        self.assertNotIn("unknown", [kind for kind, _ in message.events])


class CaseAnswerTests(SynchronousTestCase):
    """What should come of the cases."""

    def answer(self, name: str) -> bytes | None:
        (message,) = messages(case(name).frame)
        return message.answer_at(NOW)

    def test_other_heads(self) -> None:
        """The version and the digits of the serial make no difference."""
        event = published(case("F4a").frame)[0]
        self.assertEqual((event["device"], event["serial"]), ("7500000000", 29))
        data = event["data"]
        self.assertEqual((data["peripheral_type"], data["temperature_c"]), ("jt126", 27.5))
        self.assertEqual((data["humidity_percent"], self.answer("F4a")), (71, b"(P69,0,254)"))
        usual = case("F4b").frame.replace(b",1,29,", b",1,029,")
        expected = [event["data"] for event in published(usual)]
        for name in ("F4b", "F4c"):
            self.assertEqual([event["data"] for event in published(case(name).frame)], expected)
            self.assertEqual(self.answer(name), b"(P69,0,131)")

    def test_wlnet_7(self) -> None:
        """It is read like WLNET,5, and answered."""
        five = case("P3").frame.replace(b"WLNET,7", b"WLNET,5")
        told = [(event["kind"], event["data"]) for event in published(case("P3").frame)]
        self.assertEqual(told, [(event["kind"], event["data"]) for event in published(five)])
        self.assertEqual(self.answer("P3"), b"(P69,0,131)")

    def test_p45(self) -> None:
        """Packed places and what P94 adds; and a report without its serial."""
        event = published(case("P1a").frame)[0]
        self.assertEqual((event["data"]["latitude"], event["data"]["longitude"]), (22.555363, 113.422765))
        self.assertEqual((event["imei"], event["data"]["fence_id"]), ("356938035643809", 7))
        data = published(case("P1b").frame)[0]["data"]
        self.assertEqual((data["code"], data["result"], data["action"]), (1, 1, "unlocked"))
        self.assertIsNone(self.answer("P1b"))
