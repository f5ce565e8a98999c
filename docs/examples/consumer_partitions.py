"""Follow the events of all partitions and miss none, with redis-py: a thread for each partition.

Run it as: JT709C_REDIS="redis://store1 redis://store2" python consumer_partitions.py
or with one address of a Redis Cluster and JT709C_CLUSTER=1.
"""

import json
import os
import threading
import time

import redis

GROUP, CONSUMER = "logbook", "logbook-1"
OPTIONS = {"decode_responses": True, "protocol": 2}
# Other errors that a cluster has while one of its nodes is away.
AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,
)


def handle(event):
    """Yours, in the thread of the event's partition. The events of one lock come in order."""
    # In one piece, since the threads write to one terminal.
    print(f"{event['id']} {event['kind']} {event['device']}\n", end="", flush=True)


def follow(server, stream):
    """First what we were given before and never acknowledged (from 0 on), then what is new (>)."""
    try:
        server.xgroup_create(stream, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    after = "0"
    while True:
        reply = server.xreadgroup(GROUP, CONSUMER, {stream: after}, count=100, block=2000)
        entries = reply[0][1] if reply else []
        for entry, fields in entries:
            if fields:
                handle(json.loads(fields["event"]))
            server.xack(stream, GROUP, entry)
        if after != ">":
            after = entries[-1][0] if entries else ">"


def keep_following(server, stream):
    """Go on when the partition is back; the others are not held up."""
    while True:
        try:
            follow(server, stream)
        except AWAY as error:
            print(f"{stream} is away, trying again: {error}\n", end="", flush=True)
            time.sleep(1)


def connect(address):
    """Make the connection to a server or a cluster, without retries, which would hide lost replies."""
    kind = redis.RedisCluster if os.environ.get("JT709C_CLUSTER") else redis.Redis
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    return kind.from_url(address, retry=retry, **OPTIONS)


servers = [connect(one) for one in os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379").split()]
count = int(servers[0].get("jt709c:{0}:partitions"))
for number in range(count):
    # The same order as in the gateways' --redis.
    part = servers[number % len(servers)], f"jt709c:{{{number}}}:events"
    threading.Thread(target=keep_following, args=part).start()
