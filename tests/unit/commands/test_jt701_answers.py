"""The shipped jt701 profile: what a lock's sentences mean for a command, and what proves one."""

from jt709c_gateway.commands.evidence import confirms
from jt709c_gateway.commands.replies import ReplyKind
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.lock_clock import LockClock
from tests.support.jt701 import NODES, NOW, Jt701Case, heard

#: Sentences with which a lock says yes, and the commands that they answer.
ACCEPTED = (
    ("P43,1,0", "unlock", {}),
    ("P52,3,1,0", "unlock", {"method": "dynamic"}),
    ("P44,1", "set_password", {}),
    ("P52,1,1,1", "set_dynamic_passwords", {"on": True}),
    ("P52,1,0,0", "set_dynamic_passwords", {"on": False}),
    ("P41,1,1,0013953759", "cards_add", {}),
    ("P41,2,17", "cards_remove", {}),
    ("P41,3,0", "cards_clear", {}),
    ("P41,1,1,0008627839", "cards_list", {}),
    ("P58,1", "set_cards_only_in_fence", {}),
    ("P83,5", "set_auto_lock", {}),
    ("P03,1,20", "set_deep_sleep", {"on": True}),
    ("P03,0,20", "set_deep_sleep", {"on": False}),
    ("P37,126,15", "set_vibration", {}),
    ("P39,5", "set_open_alarm_again", {}),
    ("P62,2,100", "set_mileage", {}),
    ("P94,7", "set_lock_report_fields", {}),
    ("P99,1,1,30,45", "set_corners", {}),
    ("P22,1", "sync_time", {}),
    ("P10,60", "set_time_zone", {}),
    ("P11,1,+49171", "set_vip_number", {}),
    ("P12,1,0,0,0,1", "set_vip_sms", {}),
    ("P98,10,0,37,0", "query", {"what": "records"}),
    ("P98,10,1,0,0", "records_delete", {}),
    ("P52,0,000000,386531", "query", {"what": "dynamic_password"}),
    ("P52,0,,", "query", {"what": "dynamic_password"}),
    ("P24,10,1,area10", "query", {"what": "fence"}),
    ("P29,1,9,1,9,11400.6230,2233.6325", "query", {"what": "fence_nodes"}),
    ("P40,1,1,1,1,1,1,1,1,1,1,0,0,0,0", "query", {"what": "alarms"}),
    ("P06,spare.example.com,1,cmnet,,,1", "query", {"what": "spare_server"}),
    ("1,007,OTA,9,1,0", "update_firmware", {}),
    ("1,007,OTA,9,1,ftp.example.com,21,me,pw,a.bin,9,77,1", "update_firmware", {}),
    ("1,007,OTA,9,2,0", "stop_update", {}),
    ("1,007,OTA,9,0,4", "query", {"what": "update"}),
    ("1,007,WLNET,2,1,60", "set_sensor_interval", {}),
    ("1,007,WLNET,1,1,0", "sublock_unbind_all", {}),
    ("1,007,WLNET,8,0,1234567890", "sublock_unlock", {}),
    ("2,007,WLNET,8,0,1234567890", "sublock_unlock", {}),
    ("23,7,WLNET,8,0,1234567890", "sublock_unlock", {}),
    ("1,007,WLNET,1,1,1234567890", "sublock_list", {}),
    ("P59,1,0,1,1,0,1", "set_unlock_channels", {}),
    ("P04,1,60,30", "set_intervals", {}),
    ("P54,1,1", "set_tracking", {}),
    ("P40,1,1,1,1,1,1,1,1,1,1,0,0,0,0", "set_alarms", {}),
    ("P31", "set_fence", {}),
    ("P31", "set_fence", {"nodes": NODES}),
    ("P31", "fences_configured", {}),
    ("P30,1", "delete_fence", {}),
    ("1,007,WLNET,4,JT709_V1", "query", {"what": "sublock_firmware"}),
    ("1,007,WLNET,18,1,600,30", "set_sublock_intervals", {}),
    ("P61,1,20", "set_low_battery", {}),
    ("P38,1,10", "set_open_alarm", {}),
    ("P01,JT701D_V1.4,98", "query", {"what": "firmware"}),
    ("P14,861234567890123", "query", {"what": "imei"}),
    ("P68,1,89860000000000000000", "query", {"what": "sim"}),
    ("P52,1,1,3", "query", {"what": "dynamic_passwords"}),
    ("P59,0,0,1,1,0,1", "query", {"what": "channels"}),
    ("P04,0,60,30", "query", {"what": "intervals"}),
    ("P54,0,1", "query", {"what": "tracking"}),
    ("P15", "restart", {}),
    ("P32", "sleep", {}),
    ("P13", "factory_reset", {}),
    ("1,007,WLNET,8,1,1", "sublock_unlock", {}),
    ("1,007,WLNET,1,0,1,1234567890", "sublock_list", {}),
    ("1,007,WLNET,1,1,1,1234567890", "sublock_bind", {}),
)


class AnswerTests(Jt701Case):
    def test_yes(self) -> None:
        """What the lock says when it has done it."""
        for said, command, params in ACCEPTED:
            answer = self.answer(said, command, **params)
            assert answer is not None, said
            self.assertEqual((answer.accepted, answer.understood), (True, True), said)

    def test_refusals(self) -> None:
        """A wrong password is known as one; what the table does not name is not taken for a yes."""
        for said, command, params, wrong_password, reason in [
            ("P43,0,2", "unlock", {}, True, "wrong password"),
            ("P52,3,0,2", "unlock", {"method": "dynamic"}, True, "wrong password"),
            ("P44,0", "set_password", {}, True, "wrong password"),
            ("P52,1,0,0", "set_dynamic_passwords", {"on": True}, False, "still off"),
            ("P52,1,1,0", "set_dynamic_passwords", {"on": False}, False, "still on"),
            ("P03,0,20", "set_deep_sleep", {"on": True}, False, "still off"),
            ("P41,1,0", "cards_add", {}, False, "the lock took no card"),
            ("P30,0", "delete_fence", {}, False, "the lock could not delete it"),
            ("P22,0", "sync_time", {}, False, "its clock goes by its GNSS fix"),
            ("1,007,OTA,9,1,3", "update_firmware", {}, False, "FTP failed, or the battery is low"),
            ("1,007,OTA,9,1,4", "update_firmware", {}, False, "the unit is busy"),
        ]:
            answer = self.answer(said, command, **params)
            assert answer is not None, said
            self.assertEqual(
                (answer.accepted, answer.wrong_password, answer.understood, answer.reason),
                (False, wrong_password, True, reason),
            )
        for said, command, params in [
            ("P43,7,0", "unlock", {}),
            ("P52,3", "unlock", {"method": "dynamic"}),
            ("P22", "sync_time", {}),
            ("1,007,OTA,9,1,9", "update_firmware", {}),
            ("1,007,OTA,9", "update_firmware", {}),
        ]:
            answer = self.answer(said, command, **params)
            assert answer is not None
            self.assertEqual((answer.accepted, answer.understood), (False, False), said)

    def test_what_answers_nothing(self) -> None:
        """Another word, or another use of the same word."""
        for said, command, params in [
            ("P52,3,1,0", "unlock", {}),
            ("P24,1,1,a", "set_fence", {}),
            ("P29,1,12,1,10", "set_fence", {"nodes": NODES}),
            ("P41,2,17", "cards_add", {}),
            ("P98,10,1,0,0", "query", {"what": "records"}),
            ("P52,1,1,0", "query", {"what": "dynamic_password"}),
            ("P52,1,1,3", "unlock", {"method": "dynamic"}),
            ("P52,2,123456", "unlock", {"method": "dynamic"}),
            ("P52,3,1,0", "query", {"what": "dynamic_passwords"}),
            ("P54,0,1", "set_tracking", {}),
            ("P54,1,1", "query", {"what": "tracking"}),
            ("P22,2", "sync_time", {}),
            ("1,006,WLNET,8,1,1", "sublock_unlock", {}),
        ]:
            self.assertIsNone(self.answer(said, command, **params), said)

    def test_passwords_in_answers_are_masked(self) -> None:
        """The static password and the access point's are read by nobody."""
        for said, what, secret in [
            ("P44,778899", "password", "778899"),
            ("P06,gps.example.com,8888,cmnet,user,hush99,0", "server", "hush99"),
            ("P06,gps.example.com,8888,cmnet,user,hush99,1", "spare_server", "hush99"),
            ("P52,0,123456,386531", "dynamic_password", "386531"),
        ]:
            answer = self.answer(said, "query", what=what)
            assert answer is not None
            self.assertTrue(answer.accepted)
            self.assertNotIn(secret, str(answer.arguments))
        for said, what in (("P52,0,,", "dynamic_password"), ("P06,gps.example.com,8888,cmnet,,,0", "server")):
            answer = self.answer(said, "query", what=what)
            assert answer is not None
            self.assertEqual(",".join(answer.arguments), said[4:])
        # Also where the decoder was told to keep secrets readable.
        self.assertEqual(self.spec("query", what="password").reply.secret_arguments, {0})
        for spec in (self.spec("query", what="server"), self.spec("set_server")):
            self.assertEqual(spec.reply.secret_arguments, {3, 4})

    def test_cards_that_are_registered_come_unasked(self) -> None:
        """Nothing says that a unit answers at once."""
        self.assertIs(self.spec("cards_register").reply.kind, ReplyKind.NONE)


class EvidenceTests(Jt701Case):
    REPORT = "P45,130920,122700,22.56035,N,114.01640,E,A,36,270,{source},{verification},0000000000,1,0,24,5"

    def confirmed(self, source: int, verification: int) -> bool:
        rule = self.spec("unlock").evidence
        assert rule is not None
        ((seen, _),) = matching.observations(
            heard(self.REPORT.format(source=source, verification=verification)), "locked", LockClock()
        )
        return confirms(rule, seen, NOW, NOW + 60)

    def test_lock_reports(self) -> None:
        """A P45 that names a password proves it; a card, a phone or a refusal does not."""
        for source, verification, proves in [
            (4, 1, True),
            (6, 98, True),
            (6, 3, True),
            (4, 0, False),
            (6, 99, False),
            (1, 98, False),
            (7, 98, False),
            (5, 1, False),
        ]:
            self.assertEqual(self.confirmed(source, verification), proves, (source, verification))

    def test_status(self) -> None:
        """Both forms share the evidence, in which the motor's state counts too."""
        for method in ("static", "dynamic"):
            rule = self.spec("unlock", method=method).evidence
            assert rule is not None
            self.assertEqual(rule.lock_state, "unlocked")
            self.assertTrue(self.spec("unlock", method=method).shows_password)
