"""docs/metrics.rst has every metric and every alert, and no others."""

import re

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.daemon import GatewayService
from jt709c_gateway.redis.fleet_stats import FleetCounts
from jt709c_gateway.service import makeService
from jt709c_gateway.workers.metrics import WorkersCollector
from tests.support import LOOPBACK, ROOT, free_port

PAGE = ROOT / "docs" / "metrics.rst"
ALERTS = ROOT / "etc" / "prometheus-alerts.yml"


def exported() -> set[str]:
    """Return the names of samples in /metrics; of a histogram the common one."""
    options = Options()
    options.parseOptions(
        [f"--listen=tcp:{free_port()}:interface={LOOPBACK}", "--no-udp", "--redis=redis://h"]
    )
    service = makeService(options)
    assert isinstance(service, GatewayService)
    service.partitions[0].fleet_stats.fleet = FleetCounts(0, {}, 0, 0, 0, oldest=0.0)
    service.redis_time.known = True
    families = [*service.registry.collect(), *WorkersCollector([]).collect()]
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in families}


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = PAGE.read_text()

    def test_metrics(self) -> None:
        """Every metric is in a table, and there are no others."""
        said = set(re.findall(r"``(jt709c_[a-z0-9_]+)``", self.page))
        self.assertEqual(said, exported())

    def test_alerts(self) -> None:
        """Every alert has a paragraph, in the sequence of the rules."""
        rules = re.findall(r"- alert: (\w+)", ALERTS.read_text())
        section = self.page.partition("\nAlerts\n------\n")[2]
        self.assertEqual(re.findall(r"^(\w+)\n    ", section, re.MULTILINE), rules)
        for reference in re.findall(r"[Ss]ee ([A-Z][A-Za-z]+)( below)?\.", self.page):
            self.assertIn(reference[0], rules)
