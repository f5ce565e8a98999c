"""etc/grafana-dashboard.json and etc/prometheus-alerts.yml ask for what the gateway really says.

Their expressions are compared with the metrics of a daemon's own registry, with and without workers, and
are given to promtool, which also runs tests/support/prometheus-alerts-test.yml. Debian has it in the package
`prometheus`. Without it those tests are skipped, unless JT709C_REQUIRE_PROMTOOL is set, as in CI.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import SkipTest

from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.daemon import GatewayService
from jt709c_gateway.redis.fleet_stats import SPANS, FleetCounts
from jt709c_gateway.workers.ipc import Report
from jt709c_gateway.workers.metrics import WorkersCollector
from jt709c_gateway.workers.worker import Worker
from tests.support import ROOT
from tests.support.promql import grouping_labels, selectors

ALERTS = ROOT / "etc" / "prometheus-alerts.yml"
ALERT_TESTS = ROOT / "tests" / "support" / "prometheus-alerts-test.yml"
DASHBOARD = ROOT / "etc" / "grafana-dashboard.json"
#: What Prometheus itself puts on every sample.
TARGET_LABELS = {"job", "instance"}
#: Labels whose values are all there from the start.
CLOSED = {"state", "stage", "within", "outcome", "change"}

#: Metric -> label -> values that were seen.
Known = dict[str, dict[str, set[str]]]


def known_metrics() -> Known:
    """Every sample that /metrics of a daemon can have, once all that it counts has been counted."""
    options = Options()
    options.parseOptions(["--redis", "redis://127.0.0.1:1", "--gateway", "gw1", "--no-tcp", "--no-udp"])
    service = GatewayService(Clock(), options.settings, load_profiles(None))
    service.partitions[0].fleet_stats.fleet = FleetCounts(1, dict.fromkeys(SPANS, 1), 1, 1, 1, oldest=1.0)
    service.redis_time.note(0.0, 0.0, 0.0)
    counters = service.gateway.counters
    counters.frames["jt709", "location"] = counters.malformed["check"] = counters.dropped["idle"] = 1
    worker = Worker(None, 0, "gw1-1", (), lambda reason: None, 0.0)
    worker.report = Report({"ready": True}, generate_latest(service.registry).decode())
    workers = CollectorRegistry()
    workers.register(WorkersCollector([worker]))
    found: Known = {"up": {}}
    for registry in (service.registry, workers):
        for family in registry.collect():
            for sample in family.samples:
                labels = found.setdefault(sample.name, defaultdict(set))
                for label, value in sample.labels.items():
                    labels[label].add(value)
    return found


def alert_expressions() -> dict[str, str]:
    """The expression of each alert by its name."""
    found = re.findall(
        r"- alert: (\w+)\n +expr: (?:\|\n((?: {10,}\S.*\n)+)|(.+)\n)", ALERTS.read_text(encoding="utf-8")
    )
    return {name: block or line for name, block, line in found}


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard that are no headings."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    """All expressions of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


class ExpressionTests(SynchronousTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.known = known_metrics()

    def check(self, expression: str, where: str) -> None:
        """Every metric is one of ours, with these labels, and with these values where we know all."""
        labels = set(TARGET_LABELS)
        for one in selectors(expression):
            self.assertIn(one.metric, self.known, f"{where}: {expression}")
            has = self.known[one.metric]
            labels |= has.keys()
            for label, values in one.values.items():
                self.assertIn(label, TARGET_LABELS | has.keys(), f"{where}: {expression}")
                if label in CLOSED:
                    self.assertTrue(set(values) <= has[label], f"{where}: {values} in {expression}")
        self.assertTrue(grouping_labels(expression) <= labels, f"{where}: {expression}")

    def test_checker(self) -> None:
        """What is to be found is found."""
        for expression in (
            "jt709c_session",
            'rate(jt709c_frames_total{kinds="location"}[5m])',
            'sum by (reason) (jt709c_commands_total{state="done"})',
            'jt709c_commands_total{state=~"done|doen"}',
            "summ(jt709c_sessions)",
        ):
            self.assertRaises(self.failureException, self.check, expression, "here")

    def test_alerts(self) -> None:
        """The alert rules."""
        expressions = alert_expressions()
        self.assertEqual(len(expressions), ALERTS.read_text(encoding="utf-8").count("- alert:"))
        for name, expression in expressions.items():
            self.check(expression, name)

    def test_dashboard(self) -> None:
        """The dashboard's panels."""
        for panel in panels():
            for target in panel["targets"]:
                self.check(target["expr"], panel["title"])

    def test_nothing_left_out(self) -> None:
        """The dashboard shows every metric that there is."""
        shown = {one.metric for expression in dashboard_expressions() for one in selectors(expression)}
        # Histograms are shown by some of their parts; when a counter began tells nobody anything.
        parts = re.compile(r"_created$|^jt709c_commit_seconds_(count|sum)$")
        self.assertEqual({name for name in self.known if not parts.search(name)} - shown, set())

    def test_legends(self) -> None:
        """A legend names labels that the expression leaves."""
        for panel in panels():
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    expression = target["expr"]
                    plain = [label in self.known[one.metric] for one in selectors(expression)]
                    grouped = grouping_labels(expression)
                    self.assertTrue(
                        label in grouped if grouped else label in TARGET_LABELS or any(plain), expression
                    )


class DashboardTests(SynchronousTestCase):
    """The dashboard as Grafana wants it."""

    def test_form(self) -> None:
        """Each panel has a number of its own, a description, the chosen data source and a free place."""
        dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        numbers = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertEqual(cells & taken, set(), panel["title"])
            self.assertTrue(max(x for x, _ in cells) < 24, panel["title"])
            taken |= cells
        source = {"type": "prometheus", "uid": "${datasource}"}
        for panel in panels():
            self.assertTrue(panel["title"] and panel["description"], panel["id"])
            self.assertEqual(panel["datasource"], source)
            self.assertEqual(
                [one["datasource"] for one in panel["targets"]], [source] * len(panel["targets"])
            )

    def test_variables(self) -> None:
        """Data source, fleet and gateway can be chosen; nothing else is used, and each of them is."""
        text = DASHBOARD.read_text(encoding="utf-8")
        names = {one["name"] for one in json.loads(text)["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
        self.assertEqual(names, {"datasource", "job", "gateway"})
        self.assertEqual(used, names)


class AlertTests(SynchronousTestCase):
    def test_each_is_tested(self) -> None:
        """Each alert has a case in which it fires, and one in which it does not."""
        text = ALERT_TESTS.read_text(encoding="utf-8")
        silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text))
        fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", text))
        self.assertEqual(silent, set(alert_expressions()))
        self.assertEqual(fires, set(alert_expressions()))


class PromtoolTests(SynchronousTestCase):
    def promtool(self, *arguments: str | Path) -> None:
        """Run it; it has to be content."""
        tool = shutil.which("promtool")
        if tool is None:
            if os.environ.get("JT709C_REQUIRE_PROMTOOL"):
                self.fail("promtool is not there")
            raise SkipTest("promtool is not there (Debian: package prometheus)")
        run = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_alerts(self) -> None:
        """The rules can be read, and say of made-up series what they should."""
        self.promtool("check", "rules", ALERTS)
        self.promtool("test", "rules", ALERT_TESTS)

    def test_scrape(self) -> None:
        """The example configuration, with the rules beside it, is one that Prometheus takes."""
        self.promtool("check", "config", ROOT / "etc" / "prometheus-scrape.yml")

    def test_dashboard(self) -> None:
        """Every expression of the dashboard can be read once Grafana has put its variables in."""
        rules = [
            {"record": f"panel:{number}", "expr": self.filled_in(expression)}
            for number, expression in enumerate(dashboard_expressions())
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            # JSON is YAML.
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            self.promtool("check", "rules", file.name)

    @staticmethod
    def filled_in(expression: str) -> str:
        for variable, value in (("$__rate_interval", "5m"), ("$job", "jt709c-gateway"), ("$gateway", ".*")):
            expression = expression.replace(variable, value)
        return expression
