"""A fleet in several partitions on a cluster of three primaries: what a frame costs as their number grows.

Runs real gateways on a real cluster, all on this host, and puts load on them with a generator each. Either
each partition has the same load in every run (`--rate`), and then what a frame costs should not change with
their number; or all have it together (`--total`), and then each node should do its share of the work of one.
Nothing is written to disks.
"""

import argparse
import sys
from binascii import crc_hqx
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

from blocking_redis import Redis
from common import (
    HERE,
    LOOPBACK,
    BenchmarkError,
    above_zero,
    allow_connections,
    free_ports,
    positive,
    report,
    run,
)
from gateway_process import GatewayProcess
from processes import Child, busy_seconds, cpu_seconds
from servers import server, until

from jt709c_gateway.redis.partitions import Partitions

_SLOTS = 16384
_NODES = 3
#: A single partition has a hash tag for a prefix, as on any cluster.
_PREFIX, _SINGLE = "bench", "{bench}"


class Cluster:
    """Three primaries without replicas; partition k is on node k modulo 3."""

    def __init__(self, ports: list[tuple[int, int]], partitions: int) -> None:
        self.clients = [Redis(port) for port, _ in ports]
        facts = [one.info("server") for one in self.clients]
        self.pids, self.valkey = [int(one["process_id"]) for one in facts], facts[0].get("valkey_version")
        self.url = "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port, _ in ports)
        self._keys = Partitions(_SINGLE if partitions == 1 else _PREFIX, partitions).keys
        tags = ["bench"] if partitions == 1 else [str(number) for number in range(partitions)]
        owners = {crc_hqx(tag.encode(), 0) % _SLOTS: number % _NODES for number, tag in enumerate(tags)}
        for port, bus in ports[1:]:
            self.clients[0].call("CLUSTER", "MEET", LOOPBACK, port, bus)
        for node, client in enumerate(self.clients):
            # Every node has some of the slots that nobody uses: a primary without slots is none.
            mine = [one for one in range(_SLOTS) if owners.get(one, one % _NODES) == node]
            client.call("CLUSTER", "ADDSLOTS", *mine)
        until(lambda: all(self._is_ready(one) for one in self.clients))

    @staticmethod
    def _is_ready(client: Redis) -> bool:
        facts = client.call("CLUSTER", "INFO")
        return b"cluster_state:ok" in facts and b"cluster_known_nodes:%d" % _NODES in facts

    def cpu(self) -> list[float]:
        """CPU seconds of each node so far."""
        return [cpu_seconds(pid) for pid in self.pids]

    def published(self) -> list[int]:
        """The number of events that the stream of each partition was ever given."""
        found = []
        for number, keys in enumerate(self._keys):
            client = self.clients[number % _NODES]
            if not client.call("EXISTS", keys.events):
                found.append(0)
                continue
            flat = client.call("XINFO", "STREAM", keys.events)
            found.append(int(flat[flat.index(b"entries-added") + 1]))
        return found

    def close(self) -> None:
        """Close the clients."""
        for one in self.clients:
            one.close()


@contextmanager
def cluster(partitions: int) -> Iterator[Cluster]:
    """Run the nodes."""
    with ExitStack() as stack:
        ports = []
        for bus in free_ports(_NODES):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            ports.append((stack.enter_context(server(None, None, *options)), bus))
        found = Cluster(ports, partitions)
        stack.callback(found.close)
        yield found


def measure(partitions: int, options: argparse.Namespace) -> tuple[dict[str, Any], str | None]:
    """One run with so many partitions."""
    with ExitStack() as stack:
        nodes = stack.enter_context(cluster(partitions))
        settings = ["--prefix", _SINGLE if partitions == 1 else _PREFIX, "--partitions", str(partitions)]
        settings += ["--max-connections-per-address", "50000", "--max-rate", "0", "--max-share", "0"]
        gateways = []
        for number in range(options.gateways):
            more = [*settings, "--gateway", f"gw{number + 1}"]
            gateways.append(stack.enter_context(GatewayProcess(nodes.url, None, more)))
        load = ["--locks", str(options.locks // options.gateways), "--seconds", str(options.seconds)]
        rate = options.total or options.rate * partitions
        load += ["--rate", str(rate / options.gateways)]
        generators = []
        for number, one in enumerate(gateways):
            command = [sys.executable, str(HERE / "generator.py"), "--wait", "--port", str(one.port), *load]
            command += ["--skip", str(number * (options.locks // options.gateways))]
            generators.append(stack.enter_context(Child(command, pipes=True)))
        for each in generators:
            each.hear()
        began = [cpu_seconds(one.pid) for one in gateways], nodes.cpu(), nodes.published(), busy_seconds()
        for each in generators:
            each.say("go")
        results = [each.hear() for each in generators]
        ended = [cpu_seconds(one.pid) for one in gateways], nodes.cpu(), nodes.published(), busy_seconds()
        for each in generators:
            each.say("enough")
        return _result(results, began, ended), nodes.valkey


def _result(results: list[dict[str, Any]], began: Any, ended: Any) -> dict[str, Any]:
    """What a frame has cost, and how evenly the partitions were used."""
    gateways, nodes, streams = (
        [end - start for start, end in zip(*pair, strict=True)]
        for pair in zip(began[:3], ended[:3], strict=True)
    )
    answered = sum(one["answered"] for one in results)
    if sum(streams) != answered:
        raise BenchmarkError(f"{answered} frames were answered, but {sum(streams)} events published")
    seconds = max(one["seconds"] for one in results)
    others = ended[3] - began[3] - sum(gateways) - sum(nodes) - sum(one["generator_cpu"] for one in results)
    mean = sum(streams) / len(streams)
    return {
        "frames_per_second": round(answered / seconds),
        "us_per_frame": round(sum(gateways) / answered * 1e6, 1),
        "valkey_us_per_frame": round(sum(nodes) / answered * 1e6, 1),
        "node_us_per_frame": [round(one / answered * 1e6, 1) for one in nodes],
        "least_partition": round(min(streams) / mean, 3),
        "greatest_partition": round(max(streams) / mean, 3),
        "p99_ms": max(one["latency_ms"]["p99"] for one in results),
        "others_busy": round(max(0.0, others) / seconds, 3),
    }


def _row(partitions: int, result: dict[str, Any]) -> str:
    nodes = " ".join(f"{one:.1f}" for one in result["node_us_per_frame"])
    shown = (
        f"{result['frames_per_second']:,}",
        f"{result['us_per_frame']:.1f}",
        f"{result['valkey_us_per_frame']:.1f}",
        nodes,
        f"{result['least_partition']:.2f}-{result['greatest_partition']:.2f}",
        f"{result['p99_ms']:.1f}",
        f"{result['others_busy']:.0%}",
    )
    return f"{partitions:<12}" + "".join(f"{one:>18}" for one in shown)


def _middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of all rounds."""
    return {
        key: [median(each) for each in zip(*(one[key] for one in results), strict=True)]
        if isinstance(value, list)
        else median(one[key] for one in results)
        for key, value in results[0].items()
    }


def main() -> None:
    """Measure each number of partitions in turn, in every round."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--locks", type=positive, default=20_000, help="in all [%(default)s]")
    parser.add_argument("--gateways", type=positive, default=3, help="and generators [%(default)s]")
    parser.add_argument(
        "--partitions", type=positive, nargs="+", default=[1, 3, 12], help="numbers to try [1 3 12]"
    )
    parser.add_argument(
        "--rate", type=above_zero, default=250.0, help="frames a second for each partition [%(default)s]"
    )
    parser.add_argument("--total", type=above_zero, help="frames a second for all of them, instead")
    parser.add_argument("--seconds", type=above_zero, default=10.0, help="of each run [%(default)s]")
    parser.add_argument("--rounds", type=positive, default=1, help="of all numbers [%(default)s]")
    options = parser.parse_args()
    allow_connections(options.locks // options.gateways)
    columns = ("frames/s", "gateway µs", "Valkey µs", "each node", "share of partition", "p99 ms", "others")
    print(f"{'partitions':<12}" + "".join(f"{name:>18}" for name in columns), flush=True)
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in options.partitions}
    valkey = None
    for number in range(options.rounds):
        for count in options.partitions[:: -1 if number % 2 else 1]:
            result, valkey = measure(count, options)
            found[count].append(result)
            print(_row(count, result), flush=True)
    middles = {str(count): _middle(results) for count, results in found.items()}
    if options.rounds > 1:
        print("medians")
        for count, result in middles.items():
            print(_row(int(count), result))
    report("partitions", options, middles, valkey=valkey)


if __name__ == "__main__":
    run(main)
