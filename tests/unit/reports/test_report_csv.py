"""Seal reports as CSV."""

import csv
import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.reports.report_csv import COLUMNS, csv_heading, csv_of_lock, csv_of_note
from jt709c_gateway.reports.report_types import Counts, Entry, EntryCommand, LockReport, NotKnown, Place

AT = "2026-11-24T10:00:00.000000Z"


def report(*entries: Entry, name: str = "Truck 12", **more: Any) -> LockReport:
    known: dict[str, Any] = {"state_at_begin": None, "state_at_end": None, "last_heard": None, "earlier": 0}
    known |= {"device": "794308010001", "label": {"name": name}, "counts": Counts(), "not_known": []}
    return LockReport(**{**known, "entries": list(entries), **more})


def opened(**more: Any) -> Entry:
    return Entry(kind="opened", at=AT, time_of="lock", **more)


def rows(data: bytes) -> list[dict[str, str]]:
    """Read CSV again, strictly; every line is one record."""
    text = data.decode()
    found = list(csv.DictReader(io.StringIO(text, newline=""), fieldnames=COLUMNS, strict=True))
    assert text.count("\r\n") == len(text.splitlines()) == len(found), text
    return found


class CsvTests(SynchronousTestCase):
    def test_heading(self) -> None:
        self.assertEqual(rows(csv_heading()), [{name: name for name in COLUMNS}])

    def test_an_entry(self) -> None:
        """Every field has its column; numbers stay numbers, also negative ones."""
        command = EntryCommand("c1", "unlock", "confirmed", "anna", evidence={"kind": "lock"})
        [row] = rows(
            csv_of_lock(report(opened(place=Place(-33.5, -70.25, 4.0, "track"), command=command, seconds=60)))
        )
        self.assertEqual((row["name"], row["entry"], row["at"]), ("Truck 12", "opened", AT))
        self.assertEqual((row["latitude"], row["longitude"], row["seconds"]), ("-33.5", "-70.25", "60"))
        self.assertEqual((row["issued_by"], row["evidence"]), ("anna", "kind=lock"))

    def test_never_empty(self) -> None:
        """A lock of which nothing is to be told has a line that says so, or what is not known."""
        self.assertEqual([one["entry"] for one in rows(csv_of_lock(report()))], ["nothing"])
        unknown = NotKnown("no_trail", "no audit trail is kept", AT, None)
        [row] = rows(csv_of_lock(report(not_known=[unknown])))
        self.assertEqual((row["entry"], row["remarks"]), ("not_known", "no audit trail is kept"))

    def test_a_note(self) -> None:
        [row] = rows(csv_of_note("5", "incomplete", 0.0, "its partition is away"))
        self.assertEqual((row["device"], row["at"]), ("5", "1970-01-01T00:00:00.000000Z"))

    @settings(max_examples=60, deadline=None)
    @given(
        st.just("a;=1")
        | st.text(max_size=12)
        | st.sampled_from(['=HYPERLINK("x")', "+1", "-1", "@a", "a\nb", "\t=1", "'a"])
    )
    def test_no_formula(self, text: str) -> None:
        """Text from outside begins no formula, breaks no line, and is otherwise as it was."""
        command = EntryCommand("c1", issued_by=text, reason=text)
        [row] = rows(csv_of_lock(report(opened(card=text, command=command, remarks=[text]), name=text)))
        for name in ("name", "card", "issued_by", "reason", "remarks"):
            # Some spreadsheets divide lines at semicolons.
            for part in row[name].split(";"):
                self.assertFalse(part.startswith(("=", "+", "-", "@", "\t", "\r")), row[name])
        if text.isprintable() and text.isascii() and ";" not in text:
            begins = text.startswith(("=", "+", "-", "@", "'"))
            self.assertEqual(row["card"], f"'{text}" if begins else text)
