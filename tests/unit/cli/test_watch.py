"""jt709c watch against a real server."""

import json
import signal

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.device_lookup import ResolvedDevice
from jt709c_gateway.cli.event_display import Display, EventFilter, patterns
from jt709c_gateway.redis.pubsub import glob_escape
from tests.support import wait_until
from tests.support.acl import COMMANDER, READER
from tests.support.cli import DEVICE, TIMEOUT, Running, WithRedis, event


class Watch(WithRedis):
    def test_events_are_shown_one_line_each(self):
        watch = self.start("watch")
        self.assertIn("watching jt709c:event:*:* at redis://127.0.0.1", watch.notice())
        self.publish(
            "location", latitude=51.9, longitude=4.1, fix="gnss", speed_kmh=60.5, alarms=["vibration"]
        )
        self.publish("lock", action="unlocked", method="card", card="0006437449")
        self.publish("surprise", what="\x1b[2J", none=None)
        line = watch.line()
        for text in ("10:15:00Z", DEVICE, "location", "51.9,4.1", "60.5 km/h", "vibration"):
            self.assertIn(text, line)
        self.assertIn("unlocked  by card  card 0006437449", watch.line())
        line = watch.line()
        self.assertIn("what \\x1b[2J", line)
        self.assertNotIn("none", line)

    def test_local_times_are_marked_with_their_zone(self):
        for given in ({"arguments": ("--local",)}, {"JT709C_LOCAL": "1"}):
            arguments = given.pop("arguments", ())
            watch = Running("watch", *arguments, JT709C_REDIS=self.server.url, TZ="EST5", **given)
            with watch:
                watch.notice()
                self.publish("heartbeat", battery_percent=80)
                self.assertTrue(watch.line().startswith("05:15:00-05:00  "), given)

    def test_filters_and_json(self):
        watch = self.start("watch", "--json", "--kind", "lock", "--kind", "alarm", "--device", f"00{DEVICE}")
        self.assertIn(f"event:lock:{DEVICE}, jt709c:event:alarm:{DEVICE}", watch.notice())
        self.publish("location")
        self.publish("lock", "1")
        self.publish("alarm", name="low_battery")
        self.assertEqual(json.loads(watch.line())["data"], {"name": "low_battery"})

    def test_what_is_no_event_is_noted_and_passed_over(self):
        watch = self.start("watch")
        watch.notice()
        self.redis.call("PUBLISH", "jt709c:event:lock:1", b"\xff\x00")
        self.publish("heartbeat", battery_percent=80)
        self.assertIn("not an event", watch.notice())
        self.assertIn("80 %", watch.line())

    def test_a_lost_connection_is_noted_and_made_anew(self):
        watch = self.start("watch")
        watch.notice()
        self.redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        self.assertIn("lost the connection to Redis", watch.notice())
        self.assertIn("watching", watch.notice())
        self.publish("heartbeat")
        self.assertIn("heartbeat", watch.line())

    def test_a_reader_that_leaves_ends_it_quietly(self):
        watch = self.start("watch")
        watch.notice()
        watch.process.stdout.close()
        self.publish("heartbeat")
        self.publish("heartbeat")
        self.assertEqual(watch.process.wait(TIMEOUT), 141)
        self.assertEqual(watch.process.stderr.read(), "")

    def test_an_interrupt_ends_it(self):
        watch = self.start("watch")
        watch.notice()
        watch.process.send_signal(signal.SIGINT)
        self.assertEqual(watch.process.wait(TIMEOUT), 130)

    def test_several_devices_by_any_name(self):
        """Ids, IMEIs and sub-locks; of a sub-lock only what it says itself."""
        self.redis.call("HSET", "jt709c:imei", "867284063211238", "22")
        self.redis.call("HSET", "jt709c:peripheral:E03B60000A", "device", "8000010001")
        names = ("867284063211238", "e03b60000a", f"00{DEVICE}")
        watch = self.start("watch", *(part for name in names for part in ("--device", name)), user=READER)
        self.assertIn("watching 39 channels at", watch.notice())
        self.publish("heartbeat", "5")
        self.publish("lock", "8000010001", action="unlocked")
        self.publish("lock", "8000010001", action="locked", peripheral="E03B60000A")
        self.publish("lock", "22", action="refused")
        self.publish("lock", action="unlocked")
        for device, word in (("8000010001", "locked"), ("22", "refused"), (DEVICE, "unlocked")):
            line = watch.line()
            self.assertIn(f"  {device} ", line)
            self.assertIn(f"  {word}", line)

    def test_since_comes_before_what_is_live(self):
        """What the stream has of the devices and kinds that are wanted, then what comes, nothing twice."""
        self.store(event("lock", event_id="gw-1", action="unlocked"))
        for number in range(1200):
            self.store(event("location", event_id=f"gw-x{number}", fix="none"))
        self.store(event("lock", "5", event_id="gw-2", action="locked"))
        self.store(event("alarm", event_id="gw-3", name="rope_cut", active=True))
        options = ("--since", "1h", "--json", "--kind", "lock", "--kind", "alarm", "--device", DEVICE)
        watch = self.start("watch", *options, user=READER)
        watch.notice()
        found = [json.loads(watch.line())["id"] for _ in range(2)]
        self.publish("lock", event_id="gw-4", action="locked")
        found.append(json.loads(watch.line())["id"])
        self.assertEqual(found, ["gw-1", "gw-3", "gw-4"])

    def test_what_was_published_while_the_connection_was_gone_is_read(self):
        """Out of the stream, in order, and nothing twice."""
        self.store(event("lock", event_id="gw-0"))
        watch = self.start("watch", "--json", "--since", "1h", user=READER)
        watch.notice()
        self.publish("lock", event_id="gw-1")
        self.assertEqual([json.loads(watch.line())["id"] for _ in range(2)], ["gw-0", "gw-1"])
        self.redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        self.publish("lock", event_id="gw-2")
        self.assertIn("lost the connection to Redis", watch.notice())
        self.assertIn("watching", watch.notice())
        self.publish("lock", event_id="gw-3")
        self.assertEqual([json.loads(watch.line())["id"] for _ in range(2)], ["gw-2", "gw-3"])

    def test_without_the_right_to_the_stream_it_says_what_is_missing(self):
        """A commander may listen to its commands, but not read the stream."""
        watch = self.start("watch", "--kind", "command", user=COMMANDER)
        watch.notice()
        with self.server.client() as admin:
            wait_until(lambda: admin.call("ACL", "LOG"), message="the end of the stream is not asked for")
        self.redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        notices = [watch.notice() for _ in range(3)]
        self.assertIn("events published meanwhile are missing", notices[2], notices)
        self.publish("command", state="done")
        self.assertIn("done", watch.line())

    def test_a_user_who_may_not_begin_in_the_past(self):
        watch = self.start("watch", "--kind", "command", "--since", "1h", user=COMMANDER)
        self.assertIn("watching", watch.notice())
        self.assertIn("may not read the stream of events", watch.notice())

    def test_redis_that_is_away_for_long_comes_back(self):
        """One line says that it is away, though there are two connections."""
        watch = self.start("watch")
        watch.notice()
        self.server.stop()
        self.addCleanup(lambda: self.server.running or self.server.start())
        self.assertIn("lost the connection to Redis", watch.notice())
        self.assertIn("cannot connect to Redis", watch.notice())
        self.server.start()
        self.assertIn("watching", watch.notice())
        self.redis = self.server.client()
        self.publish("heartbeat")
        self.assertIn("heartbeat", watch.line())


class Patterns(SynchronousTestCase):
    def test_a_prefix_stands_for_itself_only(self):
        self.assertEqual(glob_escape("{a}*[b]?\\"), "{a}\\*\\[b\\]\\?\\\\")
        self.assertEqual(patterns("{x*}", [], []), ["{x\\*}:event:*:*"])
        self.assertEqual(patterns("p", ["lock", "alarm"], ["7"]), ["p:event:lock:7", "p:event:alarm:7"])


class Lines(SynchronousTestCase):
    """What is worth a look stands out."""

    def styles(self, kind, **data):
        text = event_format.line(json.loads(event(kind, **data)))
        return {text.plain[span.start : span.end]: str(span.style) for span in text.spans}

    def test_alarms_and_open_locks(self):
        styles = self.styles("location", fix="gnss", lock_state="unlocked", alarms=["rope_cut", "vibration"])
        self.assertEqual(styles["alarms rope_cut, vibration"], "bold red")
        self.assertEqual(styles["unlocked"], "bold yellow")
        self.assertEqual(self.styles("alarm", name="rope_cut", active=True)["rope_cut"], "bold red")
        cleared = self.styles("alarm", name="rope_cut", active=False)
        self.assertEqual(cleared["cleared"], "green")
        self.assertNotIn("rope_cut", cleared)

    def test_ends_of_commands(self):
        for state, style in (("confirmed", "bold green"), ("uncertain", "bold red"), ("sent", "")):
            self.assertEqual(self.styles("command", id="o-1", state=state).get(state, ""), style)
        self.styles("command", id="o-1", state={"a": 1})

    def test_sublocks(self):
        line = event_format.line(
            json.loads(
                event(
                    "peripheral",
                    peripheral="E03B60000A",
                    peripheral_type="jt709",
                    lock_state="locked",
                    battery_percent=85,
                    temperature_c=21.5,
                    contact_lost=True,
                    resent=True,
                )
            )
        )
        self.assertTrue(
            line.plain.endswith("jt709 E03B60000A  locked  85 %  21.5 °C  contact lost  sent again"),
            line.plain,
        )


class Bounds(SynchronousTestCase):
    def test_memory(self):
        """Of the events that were shown only the ids of the last are kept."""
        display = Display(EventFilter("p", as_json=True), [ResolvedDevice("nobody")])
        for number in range(3):
            display.show("x", event("lock", event_id=f"a-{number}").encode())
        self.assertEqual(len(display._shown), 0)
        display = Display(EventFilter("p", as_json=True))
        display._out.out = lambda *_, **__: None
        for number in range(20_100):
            display.show("x", event("lock", event_id=f"a-{number}").encode())
        self.assertEqual(len(display._shown), 20_000)
