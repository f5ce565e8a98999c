"""Files of labels: what is taken, and where a mistake is."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.label_file import (
    LabelFileError,
    LabelRow,
    read_csv,
    read_objects,
    resolved,
    write_csv,
)
from jt709c_gateway.redis.labels import Label


class ReadTests(SynchronousTestCase):
    def refused(self, text: str | bytes) -> str:
        data = text if isinstance(text, bytes) else text.encode()
        return str(self.assertRaises(LabelFileError, read_csv, data))

    def test_taken(self) -> None:
        """As spreadsheets write it: with a mark of order, semicolons, quotes and empty lines."""
        data = '\ufeffDevice;Name;Plate\r\n00794308010001;"Truck; 12";AB 1\r\n;;\r\n867284063211238;;\r\n'
        self.assertEqual(
            read_csv(data.encode()),
            [
                LabelRow("line 2", "794308010001", {"name": "Truck; 12", "plate": "AB 1"}),
                LabelRow("line 4", "867284063211238", {"name": "", "plate": ""}),
            ],
        )

    def test_where_a_mistake_is(self) -> None:
        head = "device,name,group\n1,a,b\n"
        self.assertIn(
            "line 3, column name: name has 65 characters", self.refused(head + "2," + "x" * 65 + ",")
        )
        self.assertIn("line 3, column device: text of 9 characters", self.refused(head + "7.943E+11,a,b"))
        self.assertIn("line 3 has 2 columns: expected 3", self.refused(head + "2,a"))
        # A quoted field of two lines: the line is that of its end.
        self.assertIn("line 4, column group: group has U+000A", self.refused(head + '2,a,"b\nc"'))
        self.assertIn("line 3: this is not UTF-8", self.refused(head.encode() + b"2,\xfc,\n"))
        self.assertIn("line 3", self.refused(head + '2,"a"x,b\n'))

    def test_columns(self) -> None:
        self.assertIn(
            "line 1: unknown column 2 (a name of 5 characters, near name)", self.refused("device,nname")
        )
        self.assertIn("line 1: expected the column device", self.refused("name,group\na,b"))
        self.assertIn("line 1: the column name is there 2 times", self.refused("device,name,name"))
        self.assertIn("line 1", self.refused(""))

    def test_objects(self) -> None:
        """A field that is not given stays; null removes one."""
        self.assertEqual(
            read_objects([{"device": "1", "name": " a "}, {"device": "2", "note": None}]),
            [LabelRow("row 1", "1", {"name": "a"}), LabelRow("row 2", "2", {"note": ""})],
        )
        for wrong, said in (
            ({"device": 5}, "row 2, column device: a number of 1 digit"),
            ({"device": "5", "plate": 7}, "row 2, column plate: plate is a number"),
            ({"device": "5", "color": "red"}, "row 2: unknown field 2"),
        ):
            error = self.assertRaises(LabelFileError, read_objects, [{"device": "1", "name": "a"}, wrong])
            self.assertIn(said, str(error))

    def test_twice(self) -> None:
        """One device may be there once, also by its IMEI."""
        rows = read_csv(b"device,name\n1,a\n867284063211238,b\n")
        self.assertEqual(resolved(rows, ["1", "2"]), {"1": {"name": "a"}, "2": {"name": "b"}})
        error = self.assertRaises(LabelFileError, resolved, rows, ["1", "1"])
        self.assertEqual(str(error), "line 3, column device: 1 is in line 2 already")

    def test_written_and_read_again(self) -> None:
        labels = {"10": Label('"a", b', note="c;d"), "9": Label(group="ä")}
        text = write_csv(labels)
        self.assertEqual(text.splitlines()[:2], ["device,name,group,plate,note", "9,,ä,,"])
        found = {row.device: Label(*row.fields.values()) for row in read_csv(text.encode())}
        self.assertEqual({one: label.values() for one, label in found.items()}, {
            one: label.values() for one, label in labels.items()
        })  # fmt: skip
