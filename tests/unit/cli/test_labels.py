"""jt709c label, and names of locks in the other subcommands, with no more rights than each needs."""

import json
import os
import pty
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import wait_until
from tests.support.acl import COMMANDER, READER
from tests.support.cli import COMMAND, DEVICE, TIMEOUT, WithRedis, event, iso, put_device, run
from tests.support.cli_partitions import DEVICES, WithTwoServers

OPERATOR = "jt709c-operator"
OTHER = "794308010999"
IMEI = "867284063211238"


class LabelCase(WithRedis):
    def jt709c(
        self, *arguments: str, user: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        url = self.server.url if user is None else self.server.url_of(user)
        return run(*arguments, JT709C_REDIS=url, **more)

    def output(self, *arguments: str, user: str | None = None) -> str:
        """The output of a good result."""
        result = self.jt709c(*arguments, user=user)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def assert_mistake(self, result: subprocess.CompletedProcess[str], text: str) -> None:
        self.assertEqual(
            (result.returncode, result.stdout, result.stderr.count("\n")), (2, "", 1), result.stderr
        )
        self.assertIn(text, result.stderr)

    def put_label(self, device: str, **fields: str) -> None:
        self.redis.call("HSET", f"jt709c:label:{device}", *(one for pair in fields.items() for one in pair))
        self.redis.call("SADD", "jt709c:labels", device)

    def file(self, text: str) -> str:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "labels"
        path.write_text(text)
        return str(path)


class LabelTests(LabelCase):
    def test_set_show_remove(self) -> None:
        """One field after the other; by name from then on, and as the users that may do it."""
        self.output("label", "set", f"00{DEVICE}", "--name", "Truck 12", "--group", "north", user=OPERATOR)
        said = self.output("label", "set", "truck 12", "--plate", "AB 1", "--group", "", user=OPERATOR)
        self.assertEqual(said, f"{DEVICE}\n    name    Truck 12\n    plate   AB 1\n")
        self.assertEqual(self.output("label", "show", "ab 1", user=READER), said)
        found = json.loads(self.output("label", "show", DEVICE, "--json", user=READER))
        self.assertEqual((found["plate"], found["group"]), ("AB 1", None))
        removed = self.output("label", "remove", "Truck 12", user=OPERATOR)
        self.assertEqual(removed, f"the label of Truck 12 ({DEVICE}) is removed\n")
        self.assertEqual(self.output("label", "remove", DEVICE), f"{DEVICE} has no label\n")
        self.assertEqual(self.redis.call("SCARD", "jt709c:labels"), 0)

    def test_mistakes(self) -> None:
        self.assert_mistake(
            self.jt709c("label", "set", DEVICE, "--name", "x" * 65), "--name: name has 65 characters"
        )
        self.assert_mistake(self.jt709c("label", "set", DEVICE), "there is nothing to write")
        self.assert_mistake(
            self.jt709c("label", "set", "1" * 21, "--name", "a"), "is not a device id, IMEI or name"
        )
        result = self.jt709c("label", "set", DEVICE, "--name", "a", user=READER)
        self.assert_mistake(result, "may not write labels")

    def test_files(self) -> None:
        """Whole or nothing, by IMEI too; what is exported can be imported, as CSV and as JSON."""
        self.redis.call("HSET", "jt709c:imei", IMEI, OTHER)
        path = self.file(f"device;name;group\n{DEVICE};Truck 12;north\n{IMEI};Crane;south\n")
        self.assertEqual(self.output("label", "import", path, user=OPERATOR), "2 of 2 labels changed\n")
        self.assertEqual(self.output("label", "import", path, user=OPERATOR), "0 of 2 labels changed\n")
        wrong = self.file(f"device,name\n{DEVICE},Truck 13\n5,{'x' * 65}\n")
        self.assert_mistake(
            self.jt709c("label", "import", wrong), f"{wrong}: line 3, column name: name has 65"
        )
        twice = self.file(f"device,name\n{IMEI},a\n{OTHER},b\n")
        self.assert_mistake(
            self.jt709c("label", "import", twice), f"line 3, column device: {OTHER} is in line 2"
        )
        exported = self.output("label", "export", user=READER)
        self.assertEqual(
            exported.splitlines(),
            ["device,name,group,plate,note", f"{DEVICE},Truck 12,north,,", f"{OTHER},Crane,south,,"],
        )
        as_json = self.output("label", "export", "--json")
        self.redis.call("FLUSHALL")
        for text in (exported, as_json):
            self.output("label", "import", self.file(text))
            self.assertEqual(self.output("label", "export"), exported)

    def test_list(self) -> None:
        self.put_label(DEVICE, name="Truck 12", group="north")
        self.put_label(OTHER, name="Crane", group="south", note="tall")
        lines = [" ".join(one.split()) for one in self.output("label", "list", user=READER).splitlines()]
        self.assertEqual(
            lines,
            ["name device group plate note", f"Truck 12 {DEVICE} north - -", f"Crane {OTHER} south - tall"],
        )
        found = self.output("label", "list", "TALL", "--group", "South", "-o", "csv")
        self.assertEqual(found.splitlines()[1:], [f"{OTHER},Crane,south,,tall"])


class NamesTests(LabelCase):
    def setUp(self) -> None:
        super().setUp()
        put_device(self.redis, DEVICE, time.time(), imei=IMEI)
        put_device(self.redis, OTHER, time.time())
        self.put_label(DEVICE, name="Truck 12", group="north", plate="AB 1")
        self.put_label(OTHER, name="Crane", group="south", plate="AB 2")

    def test_devices(self) -> None:
        """Names, searched and by group; in CSV and JSON each field of the label."""
        table = self.output("devices", "truck 12", user=READER)
        self.assertEqual(table.split()[:3], ["name", "group", "device"])
        self.assertRegex(table.splitlines()[1], rf"^Truck 12  north  {DEVICE} ")
        self.assertNotIn(OTHER, table)
        rows = self.output("devices", "--group", "South", "-o", "csv", user=READER).splitlines()
        self.assertTrue(rows[0].endswith("label.name,label.group,label.plate,label.note"), rows[0])
        self.assertTrue(rows[1].endswith(",Crane,south,AB 2,"), rows[1])
        self.assertEqual(len(rows), 2)
        [line] = self.output("devices", "--group", "north", "--json").splitlines()
        self.assertEqual(json.loads(line)["label"], {"name": "Truck 12", "group": "north", "plate": "AB 1"})
        names = self.output("devices", "--sort", "name", "-o", "csv").splitlines()[1:]
        self.assertEqual([one.split(",")[0] for one in names], [OTHER, DEVICE])

    def test_history_and_commands(self) -> None:
        text = event("lock", action="unlock", method="card")
        self.redis.call("XADD", f"jt709c:history:{DEVICE}", "*", "kind", "lock", "event", text)
        for user in (READER, COMMANDER):
            said = self.output("history", "truck 12", user=user)
            self.assertEqual(said.splitlines()[0], f"history of Truck 12 ({DEVICE})")
        record = {
            "id": "o-1",
            "command": "locate",
            "device": DEVICE,
            "state": "done",
            "params": "{}",
            "batch": "",
        }
        pairs = {**record, "created_at": iso(time.time())}.items()
        self.redis.call("HSET", "jt709c:command:o-1", *(one for pair in pairs for one in pair))
        self.redis.call("ZADD", "jt709c:commands:recent", time.time(), "o-1")
        for asked in (("AB 1",), ("--group", "north"), ()):
            self.assertRegex(self.output("commands", *asked, user=COMMANDER), rf"Truck 12 +{DEVICE} +locate")
        self.assertEqual(self.jt709c("commands", "--group", "south").stdout, "")
        self.assertIn(f"{DEVICE}", self.output("show", "o-1", user=COMMANDER))
        self.assertIn(f"Truck 12 ({DEVICE})", self.output("show", "o-1", user=COMMANDER))

    def test_ambiguous(self) -> None:
        """The candidates are listed; an unknown name is told the most similar one."""
        self.put_label(OTHER, name="truck 12")
        result = self.jt709c("history", "TRUCK 12")
        for part in (f"Truck 12 ({DEVICE}) [AB 1, north]", f"truck 12 ({OTHER})", "give the id of one"):
            self.assert_mistake(result, part)
        self.assert_mistake(self.jt709c("history", "Truk 12"), "ruck 12'; expected an id")
        self.assert_mistake(self.jt709c("send", "locate", "nothing like it"), "no lock has this name")

    def test_watch(self) -> None:
        """The name stands behind the id; only of a group."""
        with self.start("watch", "--group", "north", user=READER) as running:
            running.notice()
            wait_until(lambda: self.redis.call("PUBSUB", "NUMPAT"))
            for device in (OTHER, DEVICE):
                self.publish("lock", device, action="unlock", method="card")
            self.assertRegex(running.line(), rf"{DEVICE} +Truck 12  lock +unlock")

    def test_send(self) -> None:
        """The id is printed, and the command is for it."""
        result = self.jt709c("send", "locate", "ab 2", user=COMMANDER)
        self.assertEqual((result.returncode, result.stderr), (0, f"ab 2 is Crane ({OTHER})\n"))
        self.assertEqual(self.taken_command()["device"], OTHER)

    def test_send_asks(self) -> None:
        """On a terminal a physical command by name is asked about, with the id; only yes sends it."""
        password = self.file("888888\n")
        for answer, given in (("n", False), ("y", True)):
            master, slave = pty.openpty()
            self.addCleanup(os.close, master)
            process = subprocess.Popen(
                [*COMMAND, "send", "unlock", "Truck 12", "--password-file", password],
                stdin=slave,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "JT709C_REDIS": self.server.url},
            )
            os.close(slave)
            os.write(master, f"{answer}\n".encode())
            _, said = process.communicate(timeout=TIMEOUT)
            self.assertIn(f"Unlock Truck 12 ({DEVICE})? [y/N]", said)
            self.assertEqual(bool(self.redis.call("LPOP", "jt709c:commands")), given)

    def test_forget(self) -> None:
        """The label goes, too, which is said."""
        said = self.output("forget", DEVICE, "--yes", user=OPERATOR)
        self.assertEqual(
            said, f"{DEVICE} is forgotten, and its label Truck 12 ({DEVICE}); its audit trail stays\n"
        )
        self.assertEqual(self.redis.call("EXISTS", f"jt709c:label:{DEVICE}"), 0)
        self.assertEqual(self.redis.call("SMEMBERS", "jt709c:labels"), [OTHER.encode()])
        # Only an id is taken here.
        self.assert_mistake(self.jt709c("forget", "Crane", "--yes"), "is not a device id or IMEI")


class PartitionTests(WithTwoServers):
    def jt709c(self, *arguments: str) -> Any:
        return run(*arguments, JT709C_REDIS=" ".join(one.url for one in self.servers))

    def test_all_partitions(self) -> None:
        """Labels are written where their devices are; without one of them, nothing is written or guessed."""
        some = [DEVICES[number][0] for number in range(4)]
        text = "device,name\n" + "".join(f"{one},Truck {number}\n" for number, one in enumerate(some))
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write(text)
            file.flush()
            self.assertEqual(self.jt709c("label", "import", file.name).stdout, "4 of 4 labels changed\n")
            for number, device in enumerate(some):
                self.assertEqual(self.on(device, "HGET", f"label:{device}", "name"), b"Truck %d" % number)
            self.assertEqual(len(self.jt709c("label", "export").stdout.splitlines()), 5)
            self.servers[1].stop()
            result = self.jt709c("label", "import", file.name)
            self.assertEqual(result.returncode, 2)
            self.assertIn("nothing is written: partitions 1, 3 are away", result.stderr)
            self.assertIn("another lock may have this name", self.jt709c("history", "Truck 0").stderr)
