"""Makes the services of the ports for locks: those of `--listen` and `--udp`, or those a worker inherits."""

import socket
from typing import Any

from jt709c_gateway.config.settings import Settings
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.transport.backlog import listening_endpoint
from jt709c_gateway.transport.gathered_reads import GatheredReads
from jt709c_gateway.transport.listeners import Inherited, TcpService, UdpService
from jt709c_gateway.transport.proxy_protocol import split_proxied
from jt709c_gateway.transport.tcp import LockFactory, ProxiedLockFactory
from jt709c_gateway.transport.udp import LockDatagrams


def lock_listeners(
    reactor: Any,
    settings: Settings,
    gateway: Gateway,
    factory: LockFactory,
    reads: GatheredReads | None | None,
) -> list[TcpService | UdpService]:
    """Services for the ports of --listen and --udp."""
    listeners: list[TcpService | UdpService] = []
    for description in () if settings.no_tcp else settings.listen:
        plain, proxied = split_proxied(description)
        connected = ProxiedLockFactory(factory) if proxied else factory
        endpoint = listening_endpoint(reactor, plain)
        listeners.append(TcpService(endpoint, connected, f"--listen {description}", reads))
    for port in () if settings.no_udp else settings.udp:
        datagrams = LockDatagrams(gateway, settings.max_sessions)
        listeners.append(UdpService(reactor, port.port, port.interface, datagrams, f"--udp {port}", reads))
    return listeners


def inherited_listener(
    reactor: Any,
    settings: Settings,
    gateway: Gateway,
    factory: LockFactory,
    reads: GatheredReads | None | None,
    inherited: Inherited,
) -> TcpService | UdpService:
    """The service for a socket that this worker was started with."""
    if inherited.kind == socket.SOCK_STREAM:
        connected = ProxiedLockFactory(factory) if inherited.proxied else factory
        return inherited.stream_service(reactor, connected, reads)
    return inherited.datagram_service(reactor, LockDatagrams(gateway, settings.max_sessions), reads)
