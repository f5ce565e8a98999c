"""What is known of a device, from its hashes: as a script has written them, and as nobody should have."""

import json

import msgspec
import txredisapi
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import device_summary
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.labels import Label
from tests.support.acl import READER, GuardedServer

DEVICE = "794308010679"
LOCATION = {
    "time": "2026-11-22T10:14:58Z",
    "fix": "gnss",
    "latitude": -25.269608,
    "longitude": -57.602956,
    "altitude_m": 92,
    "speed_kmh": 1.8,
    "course_deg": 12,
    "gsm_signal": 29,
    "battery_percent": 100,
    "charging": False,
    "lock_state": "locked",
    "rope_open": True,
    "alarms": ["vibration"],
    "items": {"ef": "4a"},
}
STATE = {
    "imei": "867284063211238",
    "dialect": "jt709",
    "firmware": "2.31",
    "seen": "2026-11-22T10:15:00.123456Z",
    "lock_state": "unlocked",
    "battery_percent": "97",
    "alarms": '["vibration","rope_cut"]',
    "location": json.dumps(LOCATION),
    "place": json.dumps({"time": "2026-11-22T10:00:00Z", "fix": "gnss", "latitude": 1.0, "longitude": 2.0}),
}
SESSION = {
    "gateway": "gw1",
    "transport": "tcp",
    "peer": "203.0.113.7:50112",
    "since": "2026-11-22T09:00:00Z",
}
UNKNOWN = [None] * len(device_summary.DEVICE_FIELDS)
OFFLINE = [None] * len(device_summary.SESSION_FIELDS)


def state(**changed: str) -> list[bytes | None]:
    """The reply of HMGET with these fields changed."""
    return [(STATE | changed)[name].encode() for name in device_summary.DEVICE_FIELDS]


class SummariseTests(SynchronousTestCase):
    def test_all_known(self) -> None:
        """Each field stands where the contract of the web API has it, in its order."""
        session = [SESSION[name].encode() for name in device_summary.SESSION_FIELDS]
        found = json.loads(msgspec.json.encode(device_summary.summarise(DEVICE, state(), session)))
        self.assertEqual(
            found,
            {
                "device": DEVICE,
                "imei": "867284063211238",
                "dialect": "jt709",
                "firmware": "2.31",
                "seen": "2026-11-22T10:15:00.123456Z",
                "online": True,
                "gateway": "gw1",
                "transport": "tcp",
                "peer": "203.0.113.7:50112",
                "since": "2026-11-22T09:00:00Z",
                "lock_state": "unlocked",
                "battery_percent": 97,
                "gsm_signal": 29,
                "fix": "gnss",
                "latitude": -25.269608,
                "longitude": -57.602956,
                "position_time": "2026-11-22T10:14:58Z",
                "speed_kmh": 1.8,
                "course_deg": 12,
                "alarms": ["vibration", "rope_cut"],
                "rope_open": True,
                "charging": False,
            },
        )

    def test_nothing_known(self) -> None:
        """A device whose hash has gone since it was listed: all unknown, and offline."""
        found = msgspec.structs.asdict(device_summary.summarise(DEVICE, UNKNOWN, OFFLINE))
        self.assertEqual((found.pop("device"), found.pop("online"), found.pop("alarms")), (DEVICE, False, []))
        self.assertIs(found.pop("label"), msgspec.UNSET)
        self.assertEqual(set(found.values()), {None})

    def test_unreadable_values(self) -> None:
        """One that can't be read is unknown, and takes no other with it."""
        for location in ("{", "[]", "\udcff", '{"latitude": "x"}'):
            values = state()
            values[device_summary.DEVICE_FIELDS.index("location")] = location.encode(
                "utf-8", "surrogateescape"
            )
            found = device_summary.summarise(DEVICE, values, OFFLINE)
            self.assertEqual((found.latitude, found.fix, found.battery_percent), (1.0, None, 97))
            self.assertEqual(found.position_time, "2026-11-22T10:00:00Z")
        found = device_summary.summarise(DEVICE, state(alarms="5", battery_percent="9" * 5000), OFFLINE)
        self.assertEqual((found.alarms, found.battery_percent, found.gsm_signal), ([], None, 29))

    @given(
        st.lists(st.none() | st.binary(), min_size=len(UNKNOWN), max_size=len(UNKNOWN)),
        st.lists(st.none() | st.binary(), min_size=4, max_size=4),
        st.lists(st.none() | st.binary(), min_size=4, max_size=4),
    )
    def test_any_bytes(
        self, values: list[bytes | None], session: list[bytes | None], label: list[bytes | None]
    ) -> None:
        """Whatever stands in the hashes, there is a record that can be sent as JSON."""
        msgspec.json.encode(device_summary.summarise(DEVICE, values, session, label))


class SummariesTests(SynchronousTestCase):
    def test_in_order(self) -> None:
        label = [b"Truck 12", b"north", None, None]
        replies = [state(), OFFLINE, label, UNKNOWN, [b"gw2", b"udp", b"p:1", b"s"], [None] * 4]
        one, other = device_summary.summaries([DEVICE, "5"], replies)
        self.assertEqual((one.label, other.label), (Label("Truck 12", "north"), msgspec.UNSET))
        self.assertEqual((one.device, one.online, one.lock_state), (DEVICE, False, "unlocked"))
        self.assertEqual((other.device, other.online, other.gateway), ("5", True, "gw2"))

    def test_errors(self) -> None:
        """A refused command is raised, not shown as a device that nothing is known of."""
        error = txredisapi.ResponseError("NOPERM")
        self.assertRaises(
            txredisapi.ResponseError, device_summary.summaries, [DEVICE], [error, OFFLINE, [None] * 4]
        )

    def test_rights_from_before_there_were_labels(self) -> None:
        """A user that may not read labels still sees the fleet."""
        replies = [state(), OFFLINE, txredisapi.ResponseError("NOPERM No permissions")]
        (found,) = device_summary.summaries([DEVICE], replies)
        self.assertEqual((found.lock_state, found.label), ("unlocked", msgspec.UNSET))

    def test_reader(self) -> None:
        """A reader of etc/redis-acl.conf may send the commands, and a real server's replies fit."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        keys = Keys()
        with server.client() as admin, server.client_of(READER) as client:
            for key, fields in ((keys.device(DEVICE), STATE), (keys.session(DEVICE), SESSION)):
                admin.call("HSET", key, *(part for item in fields.items() for part in item))
            replies = [client.call(*command) for command in device_summary.commands(keys, [DEVICE, "5"])]
        one, other = device_summary.summaries([DEVICE, "5"], replies)
        self.assertEqual((one.gateway, one.alarms), ("gw1", ["vibration", "rope_cut"]))
        self.assertEqual((other.seen, other.online), (None, False))
