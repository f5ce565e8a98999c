"""The subcommands with several partitions: as with one, and honest when one is away."""

import json
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitions import Partitions
from tests.support import LOOPBACK, RedisError, ValkeyServer, wait_until
from tests.support.acl import COMMANDER, READER
from tests.support.cli import event, iso, put_device, run
from tests.support.cli_partitions import COUNT, DEVICES, LAYOUT, WithTwoServers
from tests.support.redis_groups import ClusterNode, RedisCluster

OPERATOR = "jt709c-operator"
MASTER, SUBLOCK = DEVICES[3][0], "E03B60000A"
IMEI = "867284063211238"


class PartitionCase(WithTwoServers):
    def fill(self, number: int, device: str, at: float) -> None:
        """Store what several subcommands show, in the partition of a device and in a single store."""
        battery = {"battery_percent": number * 7} if number % 3 else {}
        more: dict[str, Any] = {"imei": f"8672840632{number:05}", **battery}
        self.put_device(device, at, **more)
        put_device(self.single, device, at, **more)
        self.single.call("HSET", "jt709c:imei", more["imei"], device)
        record = {"id": f"c{number}", "command": "unlock", "device": device, "state": "done"}
        flat = [part for pair in {**record, "created_at": iso(at)}.items() for part in pair]
        step = json.loads(event("command", device, f"e{number}", id=f"c{number}", state="done"))
        fields = ("kind", "command", "device", device, "event", json.dumps(step))
        garbage = ("peer", f"1.2.3.4:{number}", "reason", "checksum", "raw", "7e7e", "time", iso(at))
        entry = f"{round(at * 1000)}-{number % 2}"
        for command, key, *arguments in (
            ("HSET", f"command:c{number}", *flat),
            ("ZADD", "commands:recent", f"{at:.6f}", f"c{number}"),
            ("XADD", f"history:{device}", entry, *fields),
            ("XADD", "events", entry, *fields),
            ("XADD", "malformed", entry, *garbage),
            ("RPUSH", f"track:{device}", json.dumps([iso(at), 51.5, 4.5, 1, 2])),
        ):
            self.on(device, command, key, *arguments)
            self.single.call(command, f"jt709c:{key}", *arguments)

    def setUp(self) -> None:
        super().setUp()
        self.single = self.single_server.client()
        self.addCleanup(self.single.close)
        self.single.call("FLUSHALL")
        now = time.time()
        self.devices = [DEVICES[number % COUNT][number // COUNT] for number in range(24)]
        for number, device in enumerate(self.devices):
            # Several are seen at the same moment.
            self.fill(number, device, round(now - 4000 + number // 2 * 30, 3))
        for put in (self.on, self.put_single):
            put(MASTER, "HSET", f"peripheral:{SUBLOCK}", "device", MASTER)

    def put_single(self, _: str, command: str, key: str, *arguments: Any) -> None:
        self.single.call(command, f"jt709c:{key}", *arguments)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.single_server = ValkeyServer().start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.single_server.discard()
        super().tearDownClass()


class SameAnswerTests(PartitionCase):
    """What a single store would answer, to the byte."""

    def check(self, user: str, *arguments: str) -> str:
        expected = run(*arguments, JT709C_REDIS=self.single_server.url)
        self.assertEqual(expected.returncode, 0, expected.stderr)
        found = self.output(*arguments, user=user)
        self.assertEqual(found, expected.stdout, arguments)
        return found

    def test_devices(self) -> None:
        """In every order, also where the sort key is the same or unknown."""
        everything = self.check(READER, "devices", "--json")
        self.assertEqual(everything.count("\n"), len(self.devices))
        self.check(READER, "devices", "--json", "--sort", "battery", "--limit", "13")
        self.check(READER, "devices", "--json", "--sort", "gateway", "--silent-for", "3700s")

    def test_commands(self) -> None:
        """Merged by the time of acceptance; a command is found by the beginning of its id."""
        ids = [json.loads(line)["id"] for line in self.check(COMMANDER, "commands", "--json").splitlines()]
        self.assertEqual(len(ids), len(self.devices))
        self.check(COMMANDER, "commands", self.devices[5], "-o", "csv")
        self.assertIn("c17", self.check(COMMANDER, "show", "c17"))

    def test_one_device(self) -> None:
        """By its id, by an IMEI that is in another partition, and by a sub-lock."""
        imei = "867284063200006"
        self.assertNotEqual(LAYOUT.number_of(imei), LAYOUT.number_of(self.devices[6]))
        for name in (self.devices[6], imei, SUBLOCK):
            self.check(READER, "history", name, "--json")
        self.check(READER, "track", imei, "--json")

    def test_malformed(self) -> None:
        self.check(READER, "malformed", "-o", "csv", "--limit", "11")


class NumberTests(PartitionCase):
    """How many partitions there are."""

    def test_given(self) -> None:
        """As an option or in the environment; another number than that of the store is an error."""
        self.assertEqual(
            self.jt709c("devices", "--json", user=READER, JT709C_PARTITIONS="4").stdout.count("\n"), 24
        )
        for given in ("1", "5"):
            result = self.jt709c("devices", "--partitions", given, user=READER)
            self.assertEqual(result.returncode, 2)
            told = "the keys under the prefix jt709c are in 4 partitions, not 5: give --partitions 4"
            servers = "--redis: 2 servers share the partitions; give --partitions"
            self.assertIn(servers if given == "1" else told, result.stderr)

    def test_a_single_store(self) -> None:
        """It is not read as an empty store of several."""
        self.single.call("SET", "jt709c:epoch", 3)
        result = run("devices", "--partitions", "4", JT709C_REDIS=self.single_server.url)
        self.assertEqual(result.returncode, 2)
        self.assertIn("are in 1 partition, not 4: give --partitions 1", result.stderr)

    def test_completion(self) -> None:
        """Ids of all partitions, heard last first."""
        words = {"COMP_WORDS": "jt709c track 7", "COMP_CWORD": "2", "_JT709C_COMPLETE": "bash_complete"}
        lines = self.jt709c(user=READER, **words).stdout.splitlines()
        found = [line.partition(",")[2] for line in lines]
        self.assertEqual(sorted(found), sorted(self.devices))
        self.assertEqual(set(found[:2]), set(self.devices[-2:]))


class AwayTests(PartitionCase):
    """The second server is away, with partitions 1 and 3."""

    def setUp(self) -> None:
        super().setUp()
        self.servers[1].kill()

    def test_lists(self) -> None:
        """They have the rest, say what is missing, and end with 1."""
        for arguments, user, count in (
            (("devices", "--json"), READER, 12),
            (("commands", "--json"), COMMANDER, 12),
            (("malformed", "--json"), READER, 12),
        ):
            result = self.jt709c(*arguments, user=user)
            self.assertEqual((result.returncode, result.stdout.count("\n")), (1, count), result.stderr)
            self.assertIn("partitions 1, 3 are away, and what is there is missing: cannot", result.stderr)
            self.assertIn(str(self.servers[1].port), result.stderr)

    def test_one_device(self) -> None:
        """That of a partition that is there is shown, and that of another is an error."""
        self.assertIn("command c2  done", self.output("history", DEVICES[2][0], user=READER))
        result = self.jt709c("history", DEVICES[1][0], user=READER)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("cannot connect to Redis", result.stderr)

    def test_doctor(self) -> None:
        result = self.jt709c("doctor", "--tcp", f"{LOOPBACK}:1", "--http", "http://127.0.0.1:1", user=READER)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("! of 4 partitions, these can't be reached: 1, 3: cannot connect", result.stdout)
        self.assertIn("12 locks have been heard", result.stdout)

    def test_a_command_is_pushed_elsewhere(self) -> None:
        """A gateway that reaches both forwards it."""
        result = self.jt709c("send", "locate", DEVICES[1][0], user=COMMANDER)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("forwards the command from partition 0", result.stderr)
        self.assertEqual(self.clients[0].call("LLEN", LAYOUT.keys[0].commands), 1)

    def test_watch(self) -> None:
        """It shows the rest, and that of the others when they are back."""
        watch = self.start("watch", "--since", "2h", "--json", "--partitions", "4", user=READER)
        found = [json.loads(watch.line())["device"] for _ in range(12)]
        self.assertEqual(found, [one for one in self.devices if LAYOUT.number_of(one) % 2 == 0])
        self.servers[1].start()
        self.clients[1] = self.servers[1].client()
        self.addCleanup(self.clients[1].close)
        fields = ("kind", "lock", "device", DEVICES[1][0], "event", event("lock", DEVICES[1][0], "x1"))
        self.on(DEVICES[1][0], "XADD", "events", "*", *fields)
        self.assertEqual(json.loads(watch.line())["id"], "x1")


class WatchTests(PartitionCase):
    """Streams of all partitions, merged."""

    def test_since(self) -> None:
        """Older events come in the order of a single stream, then new ones of any partition."""
        watch = self.start("watch", "--since", "2h", "--json", user=READER)
        found = [json.loads(watch.line()) for _ in self.devices]
        moments = [self.devices.index(one["device"]) // 2 for one in found]
        self.assertEqual(moments, sorted(moments))
        for number in (3, 0, 1):
            device = DEVICES[number][0]
            fields = ("kind", "lock", "device", device, "event", event("lock", device, f"new{number}"))
            self.on(device, "XADD", "events", "*", *fields)
            self.assertEqual(json.loads(watch.line())["id"], f"new{number}")

    def test_one_device(self) -> None:
        """A sub-lock is that of its master, wherever that is; kinds are chosen."""
        watch = self.start("watch", "--since", "2h", "--json", "--device", MASTER, user=READER)
        self.assertEqual(json.loads(watch.line())["device"], MASTER)


class SendTests(PartitionCase):
    """A command goes to its device's partition, and is followed there."""

    def test_wait(self) -> None:
        """Its states come from the audit trail, for a sender with no more rights than he needs."""
        imei, device = "867284063200006", self.devices[6]
        send = self.start("send", "locate", imei, "--wait", "--id", "w1", "--json", user=COMMANDER)
        taken = wait_until(lambda: self.on(device, "LPOP", "commands"))
        self.assertEqual(json.loads(taken)["id"], "w1")
        for state in ("queued", "sent", "done"):
            self.on(device, "HSET", "command:w1", "state", state)
            step = event("command", device, f"w-{state}", id="w1", command="locate", state=state)
            self.on(device, "XADD", f"history:{device}", "*", "kind", "command", "event", step)
            self.assertEqual(json.loads(send.line())["data"]["state"], state)
        self.assertEqual(send.wait(), 0)

    def test_from_the_record(self) -> None:
        """An end that the audit trail doesn't have is in the record."""
        device = self.devices[3]
        send = self.start("send", "locate", device, "--wait", "--id", "w2", user=COMMANDER)
        wait_until(lambda: self.on(device, "LPOP", "commands"))
        self.on(device, "HSET", "command:w2", "state", "timed_out")
        self.assertEqual(send.line(), "meanwhile: timed_out\n")
        self.assertEqual(send.wait(), 3)

    def test_reply_to(self) -> None:
        """The list that is named is in the partition of the name."""
        said = self.output("send", "locate", self.devices[3], "--reply-to", "desk", user=COMMANDER)
        self.assertIn(f"jt709c:{{{LAYOUT.number('desk')}}}:reply:desk\n", said)
        self.assertEqual(self.on(self.devices[3], "LLEN", "commands"), 1)


class ForgetTests(PartitionCase):
    def test_forget(self) -> None:
        """The IMEI goes too, from a partition of its own."""
        device, imei = self.devices[6], "867284063200006"
        self.assertIn("is forgotten", self.output("forget", device, "--yes", user=OPERATOR))
        self.assertEqual(self.on(device, "EXISTS", f"device:{device}"), 0)
        self.assertIsNone(self.on(imei, "HGET", "imei", imei))


class DoctorTests(PartitionCase):
    def doctor(self, *arguments: str) -> str:
        nowhere = ("--tcp", f"{LOOPBACK}:1", "--http", "http://127.0.0.1:1")
        return self.jt709c("doctor", *arguments, *nowhere).stdout

    def test_all_there(self) -> None:
        self.on(self.devices[1], "SADD", "gateways", "gw1")
        self.on(self.devices[1], "SET", "gateway:gw1", "x")
        said = self.doctor(self.devices[1])
        self.assertIn("  all of 4 partitions can be reached\n", said)
        self.assertIn("gateways that live under the prefix jt709c: gw1", said)
        self.assertIn("24 locks have been heard", said)
        self.assertIn(f"{self.devices[1]} was last heard", said)

    def test_another_number(self) -> None:
        said = self.doctor("--partitions", "5")
        self.assertIn("! the keys under the prefix jt709c are in 4 partitions, not 5\n", said)


class ClusterTests(SynchronousTestCase):
    """A Redis Cluster of three primaries."""

    def test_cluster(self) -> None:
        """Each partition is asked where it is; a node that is away takes only its own with it."""
        cluster = RedisCluster(LAYOUT.keys[0].prefix)
        self.addCleanup(cluster.discard)
        count, holders = 12, {}
        layout = Partitions("jt709c", count)
        devices = [str(number) for number in range(794308010001, 794308010061)]
        for number, keys in enumerate(layout):
            holder = holders[number] = self.holder(cluster, keys.partitions)
            with holder.client() as client:
                client.call("SET", keys.partitions, count)
                for device in devices:
                    if layout.number_of(device) == number:
                        put_device(client, device, time.time(), prefix=keys.prefix)
        self.assertEqual(len({node.port for node in holders.values()}), 3)
        url = cluster.url(*cluster.nodes[:3])
        result = run("devices", "--json", JT709C_REDIS=url)
        self.assertEqual((result.returncode, result.stdout.count("\n")), (0, 60), result.stderr)
        for node in cluster.nodes:
            with node.client() as client:
                client.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
        gone = next(node for node in cluster.nodes[:3] if node is not holders[0])
        gone.kill()
        result = run("devices", "--json", JT709C_REDIS=url)
        away = [number for number, node in holders.items() if node is gone]
        kept = [device for device in devices if layout.number_of(device) not in away]
        self.assertEqual((result.returncode, result.stdout.count("\n")), (1, len(kept)), result.stderr)
        self.assertIn(f"partitions {', '.join(map(str, away))} are away", result.stderr)

    def holder(self, cluster: RedisCluster, key: str) -> ClusterNode:
        """Return the primary that has the slot of a key."""
        for node in cluster.nodes[:3]:
            try:
                with node.client() as client:
                    client.call("GET", key)
            except RedisError:
                continue
            return node
        raise AssertionError(f"no node has {key}")
