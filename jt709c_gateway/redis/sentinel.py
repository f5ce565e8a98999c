"""Finds the current master through Redis Sentinel."""

from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet import defer

from jt709c_gateway.redis.client_protocol import RedisProtocolFactory, connect, one_line


class SentinelEndpoint:
    """Asks the sentinels, one after the other, for the current master, and connects to it.

    They are asked for every connection, so after a fail-over the next attempt leads to the new master.
    `sentinels` are pairs of a name for messages and an endpoint; each must connect and answer within
    `timeout` seconds. `connect_to(host, port)` makes the endpoint for the master.
    """

    def __init__(
        self,
        clock: Any,
        sentinels: Sequence[tuple[str, Any]],
        master_name: str,
        connect_to: Callable[[str, int], Any],
        timeout: float = 2.0,
    ) -> None:
        self._clock = clock
        self._sentinels = list(sentinels)
        self._master_name = master_name
        self._connect_to = connect_to
        self._timeout = timeout

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        """Connect to the master.

        Fails with txredisapi.ConnectionError, with the answer of each sentinel, when none knows the master.
        """
        return defer.Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        answers = []
        for sentinel in list(self._sentinels):
            name, endpoint = sentinel
            try:
                host, port = await self._ask(endpoint).addTimeout(self._timeout, self._clock)
            except defer.CancelledError:
                raise
            except defer.TimeoutError:
                answers.append(f"{name}: no answer within {self._timeout:g} s")
                continue
            except Exception as error:
                answers.append(f"{name}: {one_line(error)}")
                continue
            # Ask this sentinel first the next time.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return await self._connect_to(host, port).connect(factory)
        raise txredisapi.ConnectionError(
            f"no sentinel knows the master {self._master_name!r} ({'; '.join(answers)})"
        )

    def _ask(self, endpoint: Any) -> "defer.Deferred[tuple[str, int]]":
        async def ask() -> tuple[str, int]:
            protocol = await connect(endpoint, RedisProtocolFactory(self._clock))
            try:
                answer = await protocol.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master_name)
            finally:
                protocol.transport.abortConnection()
            if answer is None:
                raise LookupError("does not know it")
            host, port = answer
            return host.decode(), int(port)

        return defer.Deferred.fromCoroutine(ask())
