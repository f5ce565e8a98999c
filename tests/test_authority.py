"""The last look at a signed order before it is written, and the memory of what was written."""

from types import SimpleNamespace
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.lifecycle import OrderRun
from jt709c_gateway.commands.model import Order, parse_order
from jt709c_gateway.commands.order_keys import OrderKey, OrderKeys, Refusal, Why
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.sublocks import through_master
from jt709c_gateway.gateway.commands.authorization import Authority, Written
from tests.signing_support import SECRET, order_text, sign

NOW = 1_764_000_000.0
MASTER = "794308010679"
SUBLOCK = "04A1B2C3D4"
PROFILES = load_profiles()


def order(device: str = MASTER, **more: Any) -> Order:
    text = order_text(device, more.pop("command", "unlock"), **{"id": "x", "issued_at": NOW, **more})
    return parse_order(sign(text), NOW)


def run(given: Order, profile: str = "jt709") -> OrderRun:
    """The order in the form that a lock with this profile gets."""
    return OrderRun(given, PROFILES.validate(given, PROFILES.profiles[profile]).spec)


def session(device: str = MASTER, imei: str | None = None) -> Any:
    return SimpleNamespace(device=device, imei=imei)


class WrittenTests(SynchronousTestCase):
    def test_forgets_when_over(self) -> None:
        """A minute after an order's ttl has ended, and not before."""
        written = Written(limit=2)
        written.note(order(id="a", ttl=10))
        written.note(order(id="b", ttl=20))
        written.note(order(id="b", ttl=20))
        self.assertEqual([written.times(one) for one in "abc"], [1, 2, 0])
        self.assertFalse(written.has_room(NOW + 69))
        self.assertTrue(written.has_room(NOW + 70))
        self.assertEqual([written.times(one) for one in "abc"], [0, 2, 0])
        written.note(order(id="c", ttl=10))
        self.assertFalse(written.has_room(NOW + 69))
        self.assertTrue(written.has_room(NOW + 1000))


class AuthorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority(OrderKeys({"k1": OrderKey("k1", SECRET)}), Written(limit=2))

    def refused(self, why: Why, check: Any, *arguments: Any) -> None:
        self.assertEqual(self.assertRaises(Refusal, check, *arguments).why, why)

    def test_its_lock(self) -> None:
        """By its id, or by the IMEI that it has said itself; by nothing that Redis says."""
        check = self.authority.check_waited
        check(run(order()), session(), NOW)
        check(run(order(f"00{MASTER}")), session(), NOW)
        moved = attrs.evolve(order("867284063211238"), device=MASTER)
        check(run(moved), session(imei="867284063211238"), NOW)
        for other in (session(), session(imei="867284063211239")):
            self.refused(Why.OTHER_DEVICE, check, run(moved), other, NOW)

    def test_its_sublock(self) -> None:
        """At whichever master it is; the form that the master gets must be for this sub-lock."""
        moved = through_master(order(SUBLOCK), MASTER, "id")
        one = run(moved, "jt701")
        self.authority.check_waited(one, session(), NOW)
        self.authority.check_form(one, NOW)
        one.peripheral = "04A1B2C3D5"
        self.refused(Why.OTHER_DEVICE, self.authority.check_form, one, NOW)

    def test_once(self) -> None:
        """A physical order once, another as often as its profile repeats it."""
        for given in (order(), order(id="y", command="locate")):
            one = run(given)
            for _ in range(one.allowed_writes):
                self.authority.check_form(one, NOW)
                self.authority.note(given)
            self.refused(Why.REPLAYED, self.authority.check_form, one, NOW)

    def test_full(self) -> None:
        """No order is written that can't be remembered; those that are over make room."""
        for name in "ab":
            self.authority.note(order(id=name))
        self.refused(Why.FULL, self.authority.check_form, run(order()), NOW)
        self.authority.check_form(run(order()), NOW + 1000)

    def test_without_keys(self) -> None:
        """Nothing is asked of orders, and nothing remembered."""
        authority = Authority()
        for given in (order(), Order("x", "1", "unlock")):
            authority.check_waited(run(given), session("5"), NOW)
            authority.note(given)
            authority.check_form(run(given), NOW)
        self.assertEqual(authority.written.times("x"), 0)
