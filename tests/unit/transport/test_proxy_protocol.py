"""The PROXY header, read from bytes alone; Twisted's own parsers say the same wherever they read it."""

from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.transport.proxy_protocol import BadHeader, HeaderReader, Source, split_proxied
from tests.support.proxy_headers import INET, LOCAL, PROXY, SIGNATURE, UNIX, binary, v1, v2

HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)
#: Headers behind which the connection is the balancer's own.
NOBODY = (
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n",
    binary(LOCAL, 0),
    binary(LOCAL, INET, b"\x00" * 12),
    binary(PROXY, 0),
    binary(PROXY, UNIX, b"/run/x".ljust(216, b"\x00")),
)
#: What is no header, and what is kept of it.
BAD = (
    (b"\x7e\x02\x00\x00\x10\x79\x43", b"\x7e\x02\x00\x00\x10"),
    (b"(8000400055,P52,2,123456)", b"(8000"),
    (b"PROXZ", b"PROXZ"),
    (b"PROXY TCP4\r\n", b"PROXY TCP4"),
    (b"PROXY TCP4 192.0.2.7 203.0.113.1 1\r\n", b"PROXY TCP4 192.0.2.7 203.0.113.1 1"),
    (b"PROXY TCP4 192.0.2.7 203.0.113.1 x 1\r\n", b"PROXY TCP4 192.0.2.7 203.0.113.1 x 1"),
    (b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 1\r\n", b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 1"),
    (b"PROXY TCP4 2001:db8::7 203.0.113.1 1 1\r\n", b"PROXY TCP4 2001:db8::7 203.0.113.1 1 1"),
    (b"PROXY TCP6 192.0.2.7 2001:db8::1 1 1\r\n", b"PROXY TCP6 192.0.2.7 2001:db8::1 1 1"),
    (b"PROXY UDP4 192.0.2.7 203.0.113.1 1 1\r\n", b"PROXY UDP4 192.0.2.7 203.0.113.1 1 1"),
    (b"PROXY TCP4 \xff 203.0.113.1 1 1\r\n", b"PROXY TCP4 \xff 203.0.113.1 1 1"),
    (b"PROXY TCP4 " + b"1" * 200, b"PROXY TCP4 " + b"1" * 96),
    (binary(PROXY, INET, b"\x00" * 11), binary(PROXY, INET, b"\x00" * 11)),
    (binary(0x22, INET, b"\x00" * 12), binary(0x22, INET, b"\x00" * 12)[:16]),
    (binary(0x11, INET, b"\x00" * 12), binary(0x11, INET, b"\x00" * 12)[:16]),
    (SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x11\xff\xff"),
)


class HeaderTests(SynchronousTestCase):
    @given(HOSTS, PORTS, st.binary(max_size=40), st.data())
    def test_pieces(self, host: str, port: int, behind: bytes, data: Any) -> None:
        """Both versions say whom the connection comes from, in whatever pieces their bytes arrive."""
        for header in (v1(host, port), v2(host, port), v2(host, port, b"\x03\x00\x04\x00\x00\x00\x00")):
            whole = header + behind
            cut = data.draw(st.integers(0, len(whole)))
            reader = HeaderReader()
            found = reader.feed(whole[:cut])
            self.assertEqual(found is None, cut < len(header))
            if found is None:
                found = reader.feed(whole[cut:])
                assert found is not None
                self.assertEqual(found[1], behind)
            self.assertEqual(found[0], Source(host, port))

    @given(HOSTS, PORTS, st.binary(max_size=40))
    def test_agrees_with_twisted(self, host: str, port: int, behind: bytes) -> None:
        """What Twisted's parsers read is read in the same way."""
        for parser, header in ((V1Parser(), v1(host, port)), (V2Parser(), v2(host, port))):
            info, rest = parser.feed(header + behind)
            found = HeaderReader().feed(header + behind)
            assert found is not None and info is not None
            source: Any = info.source
            self.assertEqual(found[0], Source(str(ip_address(source.host)), source.port))
            self.assertEqual(found[1], rest)

    def test_nobody(self) -> None:
        """A balancer that speaks for itself, or for a kind of address that no lock has, names nobody."""
        for header in NOBODY:
            self.assertEqual(HeaderReader().feed(header + b"~"), (Source(None), b"~"), header)

    def test_bad(self) -> None:
        """Anything else is refused as soon as that shows; of what may be a lock's frame little is kept."""
        for data, kept in BAD:
            with self.assertRaises(BadHeader, msg=data) as caught:
                HeaderReader().feed(data)
            self.assertEqual(caught.exception.raw, kept)
            self.assertIn("not a PROXY header: ", str(caught.exception))

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes is a header, the beginning of one, or refused; nothing else is raised."""
        for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE + b"\x21", SIGNATURE + b"\x21\x21"):
            reader = HeaderReader()
            try:
                found = reader.feed(start + data)
            except BadHeader as error:
                self.assertTrue(len(error.raw) <= len(start + data))
                continue
            if found is None:
                self.assertTrue(len(start + data) < 4096 + 16)

    def test_split_proxied(self) -> None:
        """What stands in --listen is an endpoint of Twisted's, perhaps behind a word."""
        self.assertEqual(split_proxied("tcp:8888"), ("tcp:8888", False))
        self.assertEqual(split_proxied("haproxy:tcp6:1:interface=::1"), ("tcp6:1:interface=::1", True))
