"""A client for services in Python: gives commands and follows events through Redis (docs/client.rst).

It needs redis-py, which the extra `client` brings. `Client` blocks, `AsyncClient` is for asyncio; both have
the same methods. This package runs in your service, not in the gateway.
"""

from jt709c_gateway.client.asynchronous import AsyncClient
from jt709c_gateway.client.blocking import Client
from jt709c_gateway.client.messages import Event, Outcome, OutcomePending, SentCommand
from jt709c_gateway.client.stream_position import Gap
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.signing import SigningKey

__all__ = [
    "AsyncClient",
    "Client",
    "CommandState",
    "Event",
    "Gap",
    "Outcome",
    "OutcomePending",
    "SentCommand",
    "SigningKey",
]
