"""The metrics of all workers with a label ``worker``, and a few of their supervisor."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from jt709c_gateway.workers.worker import Worker


class WorkersCollector(Collector):
    """Collects the last reported metrics of the workers."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield the workers' metric families, each once, and two about the workers themselves."""
        up = GaugeMetricFamily(
            "jt709c_worker_up", "Whether a worker answers its supervisor.", labels=["worker"]
        )
        restarts = CounterMetricFamily(
            "jt709c_worker_restarts", "Times a worker was started again.", labels=["worker"]
        )
        families: dict[str, Metric] = {}
        for worker in self._workers:
            up.add_metric([worker.name], int(worker.report is not None))
            restarts.add_metric([worker.name], worker.restarts)
            text = "" if worker.report is None else worker.report.metrics
            for said in text_string_to_metric_families(text):
                family = families.setdefault(said.name, Metric(said.name, said.documentation, said.type))
                for sample in said.samples:
                    family.add_sample(sample.name, {**sample.labels, "worker": worker.name}, sample.value)
        yield up
        yield restarts
        yield from families.values()
