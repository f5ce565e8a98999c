"""The programs of docs/examples that forward events: to a web service, to an MQTT broker, under other
names."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.client.messages import read_event
from tests.support import LOOPBACK, ROOT, RedisError, ValkeyServer, free_port, temporary_path, wait_until
from tests.support.acl import READER, password_of, rules_of
from tests.support.daemon import Daemon
from tests.support.docs_tools import needed
from tests.support.reporter import report, stream_events

DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
SECRET = "a secret of both sides"


class Program:
    """A running example; `said` has its lines."""

    def __init__(self, test: SynchronousTestCase, *arguments: str, **environment: str) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        threading.Thread(target=self._read, daemon=True).start()
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def wait_for(self, predicate: Callable[[], Any]) -> Any:
        """Wait until it is true; AssertionError with the output of the program."""
        try:
            return wait_until(predicate)
        except AssertionError:
            raise AssertionError(f"it said: {self.said[-5:]}") from None


class ForwardingCase(SynchronousTestCase):
    """A gateway, and a Redis user with a reader's rights."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        cls.addClassCleanup(cls.server.discard)
        with cls.server.client() as client:
            client.call("ACL", "SETUSER", READER, *rules_of(READER))
        cls.daemon = Daemon(redis=cls.server.url).start()
        cls.addClassCleanup(cls.daemon.discard)
        cls.serial = 0

    def setUp(self) -> None:
        super().setUp()
        with self.server.client() as client:
            client.call("DEL", "jt709c:events")
        self.redis = f"redis://{READER}:{password_of(READER)}@{LOOPBACK}:{self.server.port}"
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()

    def locations(self, count: int) -> list[str]:
        """Let a lock send so many reports and return the ids of their events."""
        cls = type(self)
        with self.daemon.lock() as lock:
            for _ in range(count):
                cls.serial += 1
                lock.ask(report(cls.serial))
        with self.server.client() as client:
            return [one["id"] for one in stream_events(client) if one["kind"] == "location"][-count:]


class Service:
    """A web service that answers with these statuses, one after the other, and then with 204."""

    def __init__(self, test: SynchronousTestCase, *statuses: int) -> None:
        self.requests: list[tuple[str, bytes]] = []
        left = list(statuses)
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.requests.append((self.headers["X-Event-Id"], body))
                self.send_response(left.pop(0) if left else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        test.addCleanup(self._server.server_close)
        test.addCleanup(self._server.shutdown)

    def ids(self) -> list[str]:
        return [one for one, _ in self.requests]


class WebhookTests(ForwardingCase):
    """webhook.py and webhook_receiver.py."""

    def webhook(self, url: str, *arguments: str, pauses: str = "0.05 0.05") -> Program:
        return Program(
            self,
            *("webhook.py", *arguments),
            JT709C_REDIS=self.redis,
            WEBHOOK_URL=url,
            WEBHOOK_SECRET=SECRET,
            WEBHOOK_KINDS="location",
            WEBHOOK_PAUSES=pauses,
            WEBHOOK_DEAD_LETTERS=str(self.directory / "dead"),
        )

    def test_a_receiver_takes_what_is_signed(self) -> None:
        port = free_port()
        url = f"http://{LOOPBACK}:{port}/"
        receiver = Program(self, "webhook_receiver.py", str(port), WEBHOOK_SECRET=SECRET)
        wait_until(lambda: self.status_of(url, {}) == 401)
        sent = self.locations(3)
        self.webhook(url)
        receiver.wait_for(lambda: len(receiver.said) >= 3)
        self.assertEqual([line.split()[0] for line in receiver.said], sent)
        self.assertEqual(self.status_of(url, {"X-Signature": f"t=1764000000,v1={'0' * 64}"}), 401)

    def status_of(self, url: str, headers: dict[str, str]) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def test_tries_again_and_keeps_the_order(self) -> None:
        service = Service(self, 500, 429)
        sent = self.locations(2)
        program = self.webhook(service.url)
        program.wait_for(lambda: len(service.requests) >= 4)
        self.assertEqual(service.ids(), [sent[0], sent[0], sent[0], sent[1]])
        self.assertFalse((self.directory / "dead").exists())

    def test_dead_letters_and_sending_them_again(self) -> None:
        """Refused events, and those not accepted after all attempts, become dead letters; the next event
        follows."""
        service = Service(self, 400, 503, 503, 503)
        sent = self.locations(3)
        program = self.webhook(service.url)
        program.wait_for(lambda: service.ids() == [sent[0], sent[1], sent[1], sent[1], sent[2]])
        lines = (self.directory / "dead").read_text().splitlines()
        letters = [json.loads(line) for line in lines]
        self.assertEqual([one["event"]["id"] for one in letters], sent[:2])
        self.assertEqual(letters[0]["reason"], "refused with status 400")
        self.assertIn("503", letters[1]["reason"])
        self.assertEqual(self.webhook(service.url, str(self.directory / "dead")).process.wait(60), 0)
        self.assertEqual(service.ids()[-2:], sent[:2])
        self.assertEqual([json.loads(body)["id"] for _, body in service.requests[-2:]], sent[:2])

    def test_killed_in_the_middle(self) -> None:
        """An event that was not accepted yet is sent again after a restart."""
        service = Service(self)
        sent = self.locations(1)
        program = self.webhook(f"http://{LOOPBACK}:{free_port()}/", pauses="600")
        wait_until(lambda: self.pending() == 1)
        program.process.kill()
        program.process.wait()
        self.assertEqual(service.ids(), [])
        again = self.webhook(service.url)
        again.wait_for(lambda: service.ids()[-1:] == sent)

    def pending(self) -> int:
        with self.server.client() as client:
            try:
                return int(client.call("XPENDING", "jt709c:events", "webhook")[0])
            except RedisError:
                # The group does not exist yet.
                return 0


class MqttTests(ForwardingCase):
    """mqtt.py and mosquitto."""

    def setUp(self) -> None:
        super().setUp()
        self.program = needed("mosquitto")
        self.port = free_port()
        configuration = self.directory / "mosquitto.conf"
        # As root it drops to its own user, which has to be able to write here.
        configuration.write_text(f"listener {self.port} {LOOPBACK}\nallow_anonymous true\nuser root\n")
        self.configuration = str(configuration)
        self.received: dict[str, str] = {}
        self.subscriber = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.subscriber.on_connect = lambda client, *_: client.subscribe("jt709c/#", qos=1)
        self.subscriber.on_message = self.keep
        self.subscriber.reconnect_delay_set(1, 1)

    def keep(self, _: Any, __: Any, message: Any) -> None:
        self.received[json.loads(message.payload)["id"]] = message.topic

    def broker(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self.program, "-c", self.configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_no_event_is_lost_when_the_broker_is_away(self) -> None:
        broker = self.broker()
        self.subscriber.connect_async(LOOPBACK, self.port)
        self.subscriber.loop_start()
        self.addCleanup(self.subscriber.loop_stop)
        wait_until(self.subscriber.is_connected)
        program = Program(self, "mqtt.py", LOOPBACK, str(self.port), JT709C_REDIS=self.redis)
        first = self.locations(3)
        program.wait_for(lambda: set(first) <= set(self.received))
        self.assertEqual({self.received[one] for one in first}, {"jt709c/794308010679/location"})
        broker.terminate()
        broker.wait()
        (missed,) = self.locations(1)
        self.broker()
        # It is retained, so the subscriber gets it however late it is back.
        program.wait_for(lambda: missed in self.received)
        self.assertEqual([line for line in program.said if "Traceback" in line], [])


class NameTests(SynchronousTestCase):
    """other_names.py, and the table of docs/migrating.rst."""

    def setUp(self) -> None:
        spec = importlib.util.spec_from_file_location("other_names", EXAMPLES / "other_names.py")
        assert spec is not None and spec.loader is not None
        self.names: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.names)

    def event(self, **data: Any) -> Any:
        empty = dict.fromkeys(["time", "latitude", "temperature_c", "lock_state", "rope_open", "odometer_km"])
        fields = {
            "id": "e1",
            "kind": "location",
            "device": "794308010679",
            "gateway": "gw1",
            "dialect": "jt709",
        }
        fields |= {
            "received_at": "2026-12-01T00:00:00Z",
            "data": {**empty, "fix": "gnss", "alarms": [], **data},
        }
        return read_event(json.dumps(fields))

    def test_traccar(self) -> None:
        event = self.event(
            speed_kmh=18.52, odometer_km=34.7, lock_state="unlocked", alarms=["rope_cut", "back_cover_opened"]
        )
        found = self.names.traccar(event)
        self.assertAlmostEqual(found["speed"], 10.0)
        self.assertAlmostEqual(found["attributes"].pop("odometer"), 34700)
        self.assertEqual(found["attributes"], {"lock": False, "alarm": "tampering"})
        self.assertEqual((found["uniqueId"], found["valid"]), ("794308010679", True))
        self.assertNotIn("latitude", found)

    def test_plaspy(self) -> None:
        found = self.names.plaspy(self.event(speed_kmh=36.0, battery_percent=94, lock_state="locked"))
        self.assertAlmostEqual(found["speed"], 10.0)
        self.assertEqual((found["battery"], found["attributes"]["lock_state"]), (94, "locked"))

    def test_the_table(self) -> None:
        page = (DOCS / "migrating.rst").read_text().partition("     - Unit there\n")[2].partition("\n\n")[0]
        rows = [row.split("\n     -") for row in page.removeprefix("   * -").split("\n   * -")]
        named = {here.strip(" `"): tuple(cell.strip(" `") for cell in cells) for here, *cells in rows}
        traccar = {ours: theirs for ours, theirs, _ in self.names.TRACCAR}
        plaspy = {ours: theirs for ours, theirs, _ in self.names.PLASPY}
        self.assertEqual({ours: names[0] for ours, names in named.items() if names[0]}, traccar)
        self.assertEqual({ours: names[1] for ours, names in named.items() if names[1]}, plaspy)


class RunningNamesTests(ForwardingCase):
    """other_names.py with a gateway."""

    def test_lines(self) -> None:
        self.locations(1)
        for name, field in (("traccar", "fixTime"), ("plaspy", "dateTime")):
            program = Program(self, "other_names.py", name, JT709C_REDIS=self.redis)
            program.wait_for(lambda: program.said)  # noqa: B023
            self.assertIn(field, json.loads(program.said[0]))
