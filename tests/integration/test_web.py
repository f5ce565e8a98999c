"""/metrics, /healthz and /readyz over HTTP."""

import json
import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from jt709c_gateway.commands.model import CommandState
from tests.support import wait_until
from tests.support.daemon import DaemonCase
from tests.support.reporter import report
from tests.vectors import binary, location


class WebTests(DaemonCase):
    options = ("--gateway", "gw-web")

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        status, text = self.daemon.get("/metrics")
        self.assertEqual(status, 200)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples().get((name, tuple(sorted(labels.items()))), 0.0)

    def test_metrics(self) -> None:
        """The metrics count frames, malformed input, sessions, commits and answers."""
        before = self.samples()

        def grown(name: str, **labels: str) -> float:
            key = (name, tuple(sorted(labels.items())))
            return self.samples().get(key, 0.0) - before.get(key, 0.0)

        broken = binary(0x0200, location())[:-2] + b"\x00\x7e"
        with self.daemon.lock() as lock:
            lock.send(report(1), broken, binary(0x0002), report(1))
            lock.answers(3)
            self.assertEqual(self.value("jt709c_sessions"), 1)
            self.assertEqual(self.value("jt709c_links"), 1)
        self.assertEqual(grown("jt709c_frames_total", dialect="jt709", kind="location"), 2)
        self.assertEqual(grown("jt709c_frames_total", dialect="jt709", kind="heartbeat"), 1)
        self.assertEqual(grown("jt709c_malformed_total", reason="check"), 1)
        self.assertEqual(grown("jt709c_answers_total"), 3)
        self.assertEqual(grown("jt709c_duplicates_total"), 1)
        self.assertEqual(grown("jt709c_session_changes_total", change="online"), 1)
        self.assertTrue(grown("jt709c_commits_total") >= 1)
        self.assertTrue(grown("jt709c_commit_seconds_count") >= 1)
        self.assertTrue(grown("jt709c_commit_records_sum") >= 5)
        self.assertEqual(self.value("jt709c_redis_up"), 1)
        builds = [key for key in self.samples() if key[0] == "jt709c_build_info"]
        self.assertEqual(dict(builds[0][1])["gateway"], "gw-web")
        wait_until(lambda: self.value("jt709c_sessions") == 0)

    def test_names(self) -> None:
        """Every family has the prefix and a description, and none appears twice."""
        _, text = self.daemon.get("/metrics")
        names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([name for name in names if not name.startswith("jt709c_")], [])
        self.assertEqual(len(re.findall(r"^# HELP \S+ \S+", text, re.MULTILINE)), len(names))

    def test_there_from_the_start(self) -> None:
        """A state that no command has reached is 0, so that Prometheus sees the first one as an increase."""
        states = {dict(labels)["state"] for name, labels in self.samples() if name == "jt709c_commands_total"}
        self.assertEqual(states, set(CommandState))
        self.assertEqual(self.value("jt709c_commands_total", state="uncertain"), 0)

    def test_healthy(self) -> None:
        """It is healthy as long as it answers, and ready while Redis can be used and its ports are bound."""
        self.assertEqual(self.daemon.get("/healthz"), (200, "ok\n"))
        status, body = self.daemon.get("/readyz")
        said = json.loads(body)
        self.assertLess(abs(said.pop("clock_offset_s")), 3)
        self.assertEqual(
            (status, said), (200, {"ready": True, "redis": True, "listeners": True, "clock": True})
        )

    def test_redis_away(self) -> None:
        """Without Redis it is healthy and not ready, and says why; then it is ready again."""
        self.server.stop()
        try:
            wait_until(lambda: self.daemon.get("/readyz")[0] == 503)
            said = json.loads(self.daemon.get("/readyz")[1])
            self.assertEqual(
                {name: said[name] for name in ("ready", "redis", "listeners")},
                {"ready": False, "redis": False, "listeners": True},
            )
            self.assertEqual(self.daemon.get("/healthz")[0], 200)
            self.assertEqual(self.value("jt709c_redis_up"), 0)
        finally:
            self.server.start()
        self.daemon.wait_ready()
        self.assertEqual(self.value("jt709c_redis_up"), 1)

    def test_nothing_else(self) -> None:
        """Other pages don't exist."""
        self.assertEqual(self.daemon.get("/nothing")[0], 404)

    def test_no_access_log(self) -> None:
        """Requests leave nothing in the log."""
        before = self.daemon.log()
        for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
            self.daemon.get(path)
        self.assertEqual(self.daemon.log(), before)

    def test_many_answers(self) -> None:
        """It answers requests while it is busy."""
        result: Any = None
        with self.daemon.lock() as lock:
            lock.send(*[report(serial) for serial in range(100, 400)])
            result = self.daemon.get("/metrics")
            lock.answers(300)
        self.assertEqual(result[0], 200)
