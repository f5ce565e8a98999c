"""A gateway with a wrong or changed clock suppresses no alarm and delays no command."""

import json
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.partitioned import store

#: Makes a process add the seconds in a file to its wall clock.
_CLOCK = """
import time
_real, _file = time.time, {file!r}
def _wrong():
    with open(_file) as text:
        return _real() + float(text.read() or 0)
time.time = _wrong
"""
_ALARMS = 1 << 7 | 1 << 16


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = store().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        directory = tempfile.TemporaryDirectory(prefix="jt709c-clock-")
        self.addCleanup(directory.cleanup)
        self._ahead = Path(directory.name) / "ahead"
        (Path(directory.name) / "sitecustomize.py").write_text(_CLOCK.format(file=str(self._ahead)))
        self._environment = {"PYTHONPATH": directory.name}
        self.set_clock(0)

    def set_clock(self, ahead: float) -> None:
        """Set the clock of the gateway's host so many seconds ahead of Redis's."""
        new = self._ahead.with_suffix(".new")
        new.write_text(str(ahead))
        new.rename(self._ahead)

    def start(self, *options: str) -> Daemon:
        """Start a gateway on that host."""
        daemon = Daemon(*options, redis=self.server.url, environment=self._environment).start()
        self.addCleanup(daemon.discard)
        return daemon

    def told(self, device: str) -> list[tuple[str, bool]]:
        """Return the published alarms."""
        return [(one["data"]["name"], one["data"]["active"]) for one in self.client.events("alarm", device)]

    def test_a_gateway_whose_clock_is_wrong_tells_alarms(self) -> None:
        """Over TCP and UDP, with one process and with workers; times in events are right."""
        right = Daemon("--gateway", "right", redis=self.server.url).start()
        self.addCleanup(right.discard)
        for ahead, options in ((-600, ()), (86_400, ("--workers", "2"))):
            self.set_clock(ahead)
            wrong = self.start("--gateway", f"wrong{ahead}".replace("-", "x"), *options)
            for link in (wrong.lock, wrong.datagram_lock):
                lock = FakeLock(new_device())
                lock.connect(right)
                lock.close()
                with link() as again:
                    again.ask(lock.location(alarm_bits=_ALARMS))
                    again.ask(lock.location())
                names = ("low_battery", "back_cover_opened")
                expected = [(name, active) for active in (True, False) for name in names]
                self.assertEqual(self.told(lock.device), expected)
                first, *_, last = [one["received_at"] for one in self.client.events("location", lock.device)]
                self.assertEqual(first[:13], last[:13])
            wrong.stop()

    def test_it_says_so(self) -> None:
        """In the log once, in the metrics, and in the detail of /readyz, which stays 200."""
        self.set_clock(-600)
        daemon = self.start("--gateway-ttl", "3")
        status, body = daemon.get("/readyz")
        said = json.loads(body)
        self.assertEqual((status, said["ready"], said["clock"]), (200, True, False))
        self.assertLess(abs(said["clock_offset_s"] + 600), 2)
        self.assertLess(abs(daemon.metrics()["jt709c_clock_offset_seconds"] + 600), 2)
        self.set_clock(0)
        wait_until(lambda: "agrees with Redis's again" in daemon.log())
        self.assertTrue(json.loads(daemon.get("/readyz")[1])["clock"])
        self.assertEqual(daemon.log().count("s behind Redis's"), 1)

    def test_commands_end_in_time_when_the_clock_is_set(self) -> None:
        """Back or forward by an hour: a sent command ends by its timeout, and the next one is sent."""
        daemon = self.start()
        for ahead in (-3600, 3600):
            self.set_clock(0)
            lock = FakeLock(new_device()).connect(daemon)
            command = self.client.unlock(lock.device, timeout=2)
            lock.next_unlock()
            self.client.wait(command, "sent")
            self.set_clock(ahead)
            following = self.client.command(lock.device, "locate", ttl=60)
            self.client.wait(command, "uncertain", timeout=20)
            self.client.wait(following, "sent", timeout=20)
            lock.close()
