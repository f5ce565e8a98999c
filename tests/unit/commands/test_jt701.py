"""The shipped jt701 and jt705 profiles: what each command writes, what answers it, what is refused."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import PnnSentence, load_profiles
from tests.support.jt701 import DEVICE, NODES, NOW, Jt701Case

CARDS = [f"{number:010d}" for number in range(21)]
CHANNELS = {"sms": False, "gprs": True, "rfid": True, "serial": False, "bluetooth": True}
SERVER = {"host": "gps.example.com", "port": 8888, "apn": "cmnet"}
SUBLOCK = "1234567890"
ALARMS = {
    "rope_cut": "off", "illegal_card": "gprs", "open_too_long": "sms", "wrong_password": "both",
    "vibration": "off",
    "fence_entered": "gprs", "fence_left": "gprs", "low_battery": "gprs", "back_cover_opened": "gprs",
    "motor_stuck": "gprs",
}  # fmt: skip
VIP_SMS = {"first": True, "second": False, "third": False, "fourth": False, "fifth": True}
FIRST_PAGE = ",".join(f"00{number}00.0000,0130.0000" for number in range(10))
PAGES = [[1.5, float(number)] for number in range(12)]
UPDATE = {
    "host": "ftp.example.com", "user": "me", "password": "hush99", "file": "a.bin", "bytes": 9,
    "checksum": "77",
}  # fmt: skip
#: The one command whose answer depends on the firmware.
ASSUMED = {"locate"}

COMMANDS: list[tuple[str, dict[str, Any], str]] = [
    ("unlock", {}, "(P43,888888)"),
    ("unlock", {"password": "a#1b c"}, "(P43,a#1b c)"),
    ("unlock", {"method": "static"}, "(P43,888888)"),
    ("unlock", {"method": "dynamic"}, "(P52,3,123456)"),
    ("set_password", {"new": "abc123"}, "(P44,abc123,888888)"),
    ("set_password", {"new": "abc123", "old": "x#y-z!"}, "(P44,abc123,x#y-z!)"),
    ("set_dynamic_passwords", {"on": True, "fence": True}, "(P52,1,1,1,1)"),
    ("set_dynamic_passwords", {"on": True}, "(P52,1,1,1,0)"),
    ("set_dynamic_passwords", {"on": False}, "(P52,1,1,0,0)"),
    ("cards_add", {"cards": ["0006437449", "0008627839"]}, "(P41,1,1,2,0006437449,0008627839)"),
    ("cards_add", {"cards": CARDS[:20]}, f"(P41,1,1,20,{','.join(CARDS[:20])})"),
    ("cards_remove", {"cards": ["0008627839"]}, "(P41,1,2,1,0008627839)"),
    ("cards_clear", {}, "(P41,1,3)"),
    ("cards_list", {}, "(P41,0,1)"),
    ("cards_list", {"group": 2}, "(P41,0,2)"),
    ("cards_register", {}, "(P42,1)"),
    ("cards_register", {"on": False}, "(P42,0)"),
    ("set_cards_only_in_fence", {"on": True}, "(P58,1,1)"),
    ("set_auto_lock", {"minutes": 10}, "(P83,1,10)"),
    ("set_unlock_channels", CHANNELS, "(P59,1,0,1,1,0,1)"),
    ("set_intervals", {"awake": 5, "asleep": 1440}, "(P04,1,5,1440)"),
    ("set_intervals", {"awake": 600, "asleep": 5}, "(P04,1,600,5)"),
    ("set_intervals", {"awake": 3600, "asleep": 1440}, "(P04,1,3600,1440)"),
    ("set_tracking", {"on": True}, "(P54,1,1)"),
    ("set_tracking", {"on": False}, "(P54,1,0)"),
    ("set_alarms", ALARMS, "(P40,1,0,1,2,3,0,1,1,1,1,1)"),
    ("set_low_battery", {"percent": 0}, "(P61,1,0)"),
    ("set_low_battery", {"percent": 90}, "(P61,1,90)"),
    ("set_open_alarm", {"minutes": 3}, "(P38,1,3)"),
    ("set_open_alarm", {"minutes": 180}, "(P38,1,180)"),
    ("set_open_alarm_again", {"minutes": 3}, "(P39,1,3)"),
    ("set_deep_sleep", {"on": True, "percent": 90}, "(P03,1,1,90)"),
    ("set_deep_sleep", {"on": False}, "(P03,1,0,5)"),
    ("set_vibration", {"milli_g": 0}, "(P37,1,0)"),
    ("set_vibration", {"milli_g": 63}, "(P37,1,63)"),
    ("set_mileage", {"km": 0}, "(P62,2,1,0)"),
    ("set_mileage_speed", {"kmh": 5}, "(P62,1,1,5)"),
    ("set_lock_report_fields", {"bits": "7"}, "(P94,1,7)"),
    ("set_corners", {"seconds": 30, "angle": 45}, "(P99,1,1,30,45)"),
    ("set_fence", {"id": 10, "name": "area10"}, "(P24,1,10,1,area10)(P31)"),
    ("set_fence", {"id": 1, "name": "a", "on": False}, "(P24,1,1,0,a)(P31)"),
    (
        "set_fence",
        {"id": 1, "name": "a", "nodes": [*NODES, [0, 0]]},
        "(P24,1,1,1,a)(P29,1,1,1,3,11400.6230,2233.6325,-05736.1774,-2230.0000,00000.0000,0000.0000)(P31)",
    ),
    (
        "set_fence",
        {"id": 2, "name": "b", "nodes": PAGES},
        f"(P24,1,2,1,b)(P29,1,2,1,10,{FIRST_PAGE})(P29,1,2,2,2,01000.0000,0130.0000,01100.0000,0130.0000)(P31)",
    ),
    ("delete_fence", {"id": 3}, "(P30,3)"),
    ("fences_configured", {}, "(P31)"),
    ("locate", {}, "(P02)"),
    ("query", {"what": "dynamic_password"}, "(P52,0)"),
    ("query", {"what": "alarms"}, "(P40,0)"),
    ("query", {"what": "deep_sleep"}, "(P03,0)"),
    ("query", {"what": "cards_only_in_fence"}, "(P58,0)"),
    ("query", {"what": "fence", "id": 10}, "(P24,0,10)"),
    ("query", {"what": "fence_nodes", "id": 10}, "(P29,0,10)"),
    ("query", {"what": "corners"}, "(P99,1,0)"),
    ("query", {"what": "records"}, "(P98,10,0)"),
    ("query", {"what": "update"}, f"({DEVICE},1,007,OTA,9,0)"),
    ("query", {"what": "sublock_intervals"}, f"({DEVICE},1,007,WLNET,18,0)"),
    ("query", {"what": "sensor_interval"}, f"({DEVICE},1,007,WLNET,2,0)"),
    ("query", {"what": "spare_server"}, "(P06,2)"),
    ("set_server", {**SERVER, "which": "spare"}, "(P06,3,gps.example.com,8888,cmnet,,)"),
    ("set_time_zone", {"minutes": -720}, "(P10,1,-720)"),
    ("set_vip_number", {"number": 5, "phone": "+491711234567"}, "(P11,1,5,+491711234567)"),
    ("set_vip_sms", VIP_SMS, "(P12,1,1,0,0,0,1)"),
    ("set_power_key", {"arguments": ["1", "0"]}, "(P50,1,0)"),
    ("set_drift", {"arguments": ["1", "0"]}, "(P63,1,0)"),
    ("set_alias", {"arguments": ["1", "Truck-7"]}, "(P65,1,Truck-7)"),
    ("set_waking", {"arguments": ["1", "1", "0"]}, "(P70,1,1,0)"),
    ("set_gnss_saving", {"arguments": ["1", "1"]}, "(P97,1,1)"),
    ("records_delete", {}, "(P98,10,1,0,0)"),
    ("update_firmware", UPDATE, f"({DEVICE},1,007,OTA,9,1,ftp.example.com,21,me,hush99,a.bin,9,77)"),
    ("stop_update", {}, f"({DEVICE},1,007,OTA,9,2)"),
    ("set_sublock_intervals", {"beat": 0, "alarm": 86400}, f"({DEVICE},1,007,WLNET,18,1,0,86400)"),
    ("set_sensor_interval", {"minutes": 60}, f"({DEVICE},1,007,WLNET,2,1,60)"),
    ("sublock_unbind_all", {}, f"({DEVICE},1,007,WLNET,1,1,0)"),
    ("query", {"what": "sublock_firmware"}, f"({DEVICE},1,007,WLNET,4)"),
    ("query", {"what": "firmware"}, "(P01)"),
    ("query", {"what": "imei"}, "(P14)"),
    ("query", {"what": "sim"}, "(P68,1,0)"),
    ("query", {"what": "sim", "number": 2}, "(P68,2,0)"),
    ("query", {"what": "password"}, "(P44,1)"),
    ("query", {"what": "dynamic_passwords"}, "(P52,1,0)"),
    ("query", {"what": "channels"}, "(P59,0)"),
    ("query", {"what": "intervals"}, "(P04,0)"),
    ("query", {"what": "tracking"}, "(P54,0)"),
    ("query", {"what": "server"}, "(P06,0)"),
    ("set_server", SERVER, "(P06,1,gps.example.com,8888,cmnet,,)"),
    (
        "set_server",
        {**SERVER, "apn_user": "u", "apn_password": "p"},
        "(P06,1,gps.example.com,8888,cmnet,u,p)",
    ),
    ("sync_time", {}, "(P22,130920122640)"),
    ("restart", {}, "(P15)"),
    ("sleep", {}, "(P32)"),
    ("factory_reset", {}, "(P13)"),
    ("sublock_unlock", {"id": SUBLOCK}, f"({DEVICE},1,007,WLNET,8,1,1,5,{SUBLOCK})"),
    ("sublock_unlock", {"id": SUBLOCK, "minutes": 1}, f"({DEVICE},1,007,WLNET,8,1,1,1,{SUBLOCK})"),
    ("set_sublock_intervals", {"beat": 600, "alarm": 30}, f"({DEVICE},1,007,WLNET,18,1,600,30)"),
    ("sublock_list", {}, f"({DEVICE},1,007,WLNET,1,0)"),
    ("sublock_bind", {"ids": [SUBLOCK, "79001A0001"]}, f"({DEVICE},1,007,WLNET,1,1,2,{SUBLOCK},79001A0001)"),
    ("raw", {"hex": "7e7e"}, "~~"),
    ("raw", {"sentence": "(P02)"}, "(P02)"),
]


#: Commands with parameters that are refused, and what the refusal says.
OUT_OF_RANGE = (
    ("unlock", {"password": "12345"}, "params.password: is ******; expected text of 6"),
    ("unlock", {"password": "1234567"}, "expected text of 6"),
    ("unlock", {"password": "88,888"}, "expected text of 6"),
    ("unlock", {"method": "dynamic", "password": "abcdef"}, "matching [0-9]{6}"),
    ("set_password", {}, "params.new: missing"),
    ("set_password", {"new": "12345"}, "params.new: is ******; expected text of 6"),
    ("set_dynamic_passwords", {"fence": True}, "params.on: missing"),
    (
        "set_dynamic_passwords",
        {"on": True, "fence": 3},
        "params.fence: is a number of 1 digit; expected",
    ),
    ("cards_add", {}, "params.cards: missing"),
    ("cards_add", {"cards": []}, "a list of 1 to 20 items"),
    ("cards_add", {"cards": CARDS}, "a list of 1 to 20 items"),
    ("cards_add", {"cards": ["123"]}, "params.cards[]"),
    ("cards_remove", {"cards": CARDS}, "a list of 1 to 20 items"),
    ("cards_clear", {"cards": CARDS[:1]}, "has no meaning here"),
    ("cards_list", {"group": 0}, "an integer from 1 to 25"),
    ("cards_list", {"group": 26}, "an integer from 1 to 25"),
    ("set_unlock_channels", {"gprs": True}, "missing; expected true or false"),
    (
        "set_unlock_channels",
        {**CHANNELS, "sms": 1},
        "params.sms: is a number of 1 digit; expected",
    ),
    (
        "set_intervals",
        {"awake": 4, "asleep": 5},
        "params.awake: is a number of 1 digit; expected an integer from 5 to 3600",
    ),
    ("set_intervals", {"awake": 3601, "asleep": 5}, "from 5 to 3600"),
    ("set_intervals", {"awake": 5, "asleep": 4}, "from 5 to 1440"),
    ("set_intervals", {"awake": 5, "asleep": 1441}, "from 5 to 1440"),
    ("set_intervals", {"awake": 5.5, "asleep": 5}, "an integer from 5 to 3600"),
    ("set_tracking", {}, "params.on: missing"),
    ("set_alarms", {}, "missing; expected one of off, gprs, sms, both"),
    ("set_alarms", {**ALARMS, "vibration": "loud"}, "params.vibration"),
    ("set_fence", {"name": "a"}, "params.id: missing"),
    ("set_fence", {"id": 11, "name": "a"}, "from 1 to 10"),
    ("set_fence", {"id": 1}, "params.name: missing"),
    ("set_fence", {"id": 1, "name": "a" * 17}, "text of 1 to 16"),
    ("set_fence", {"id": 1, "name": "a-b"}, "matching [0-9A-Za-z]+"),
    ("set_fence", {"id": 1, "name": "a", "nodes": NODES}, "a list of 3 to 50 places"),
    ("set_fence", {"id": 1, "name": "a", "nodes": [[0, 0]] * 51}, "a list of 3 to 50 places"),
    ("set_fence", {"id": 1, "name": "a", "nodes": [[91, 0]] * 3}, "[latitude, longitude] in degrees"),
    (
        "set_fence",
        {"id": 1, "name": "a", "nodes": [[0, -181]] * 3},
        "[latitude, longitude] in degrees",
    ),
    ("set_fence", {"id": 1, "name": "a", "nodes": [[0]] * 3}, "[latitude, longitude] in degrees"),
    (
        "set_fence",
        {"id": 1, "name": "a", "nodes": [["0", 0]] * 3},
        "[latitude, longitude] in degrees",
    ),
    (
        "set_fence",
        {"id": 1, "name": "a", "nodes": [[True, 0]] * 3},
        "[latitude, longitude] in degrees",
    ),
    ("set_fence", {"id": 1, "name": "a", "nodes": "0,0"}, "a list of 3 to 50 places"),
    ("delete_fence", {}, "params.id: missing"),
    ("delete_fence", {"id": 0}, "from 1 to 10"),
    ("delete_fence", {"id": 11}, "from 1 to 10"),
    ("set_sublock_intervals", {"beat": 4, "alarm": 5}, "0 or an integer from 5 to 86400"),
    ("set_sublock_intervals", {"beat": 5, "alarm": 86401}, "0 or an integer from 5 to 86400"),
    ("set_vibration", {"milli_g": 62}, "0 or an integer from 63 to 500"),
    ("set_vibration", {"milli_g": 501}, "0 or an integer from 63 to 500"),
    ("set_open_alarm_again", {"minutes": 11}, "from 3 to 10"),
    ("set_auto_lock", {"minutes": 0}, "from 1 to 10"),
    ("set_deep_sleep", {"on": True, "percent": 4}, "from 5 to 90"),
    ("set_time_zone", {"minutes": 781}, "from -720 to 780"),
    ("set_vip_number", {"number": 6, "phone": "1"}, "from 1 to 5"),
    ("set_vip_number", {"number": 1, "phone": "1,2"}, "params.phone"),
    ("set_power_key", {"arguments": ["1)(P43"]}, "params.arguments[]"),
    ("update_firmware", {**UPDATE, "password": "a,b"}, "params.password: is ***"),
    ("set_low_battery", {"percent": 91}, "from 0 to 90"),
    ("set_low_battery", {"percent": -1}, "from 0 to 90"),
    ("set_open_alarm", {"minutes": 2}, "from 3 to 180"),
    ("set_open_alarm", {"minutes": 181}, "from 3 to 180"),
    ("query", {"what": "weather"}, "expected one of firmware, imei, sim, password"),
    ("query", {"what": "imei", "number": 1}, "params.number: has no meaning here"),
    ("query", {"what": "sim", "number": 3}, "from 1 to 2"),
    ("set_server", {**SERVER, "host": "a b"}, "params.host"),
    ("set_server", {**SERVER, "port": 0}, "from 1 to 65535"),
    ("set_server", {**SERVER, "port": 65536}, "from 1 to 65535"),
    ("set_server", {**SERVER, "apn_password": "a)b"}, "params.apn_password: is ******"),
    ("sublock_unlock", {"id": SUBLOCK, "minutes": 6}, "from 1 to 5"),
    ("sublock_unlock", {"id": SUBLOCK, "minutes": 0}, "from 1 to 5"),
    ("sublock_unlock", {"id": "12"}, "params.id"),
    ("sublock_bind", {"ids": []}, "a list of 1 to 66 items"),
    ("sublock_bind", {"ids": [SUBLOCK] * 67}, "a list of 1 to 66 items"),
)


class CommandTests(Jt701Case):
    def test_bytes_of_each_command(self) -> None:
        """What each command puts on the wire."""
        for command, params, expected in COMMANDS:
            self.assertEqual(self.wire(command, **params), expected, command)

    def test_all_digits_of_the_master(self) -> None:
        """Zeros that ids are shown without are back where a sentence names the master."""
        self.assertEqual(self.wire("sublock_list", device="620011"), "(0000620011,1,007,WLNET,1,0)")

    def test_every_command_and_form_is_tried_above(self) -> None:
        """The list above grows with the profile."""
        tried = {id(self.spec(command, **params)) for command, params, _ in COMMANDS}
        for definition in self.profile.commands.values():
            for form in (definition.base, *(variant.spec for variant in definition.variants)):
                self.assertTrue(form is None or id(form) in tried, definition.name)

    def test_ranges(self) -> None:
        """What lies outside is refused with what is right."""
        for command, params, text in OUT_OF_RANGE:
            refusal = str(self.assertRaises(InvalidCommand, self.wire, command, **params))
            self.assertIn(text, refusal, (command, params))

    def test_the_longest_list_of_sublocks_fits(self) -> None:
        """A sentence holds as many as may be given."""
        self.assertTrue(self.wire("sublock_bind", ids=[SUBLOCK] * 66).endswith(f"{SUBLOCK})"))

    def test_what_moves_a_lock_is_written_once(self) -> None:
        """Unlocking and raw are physical; what must not be said twice is not repeated either."""
        specs = [self.spec(command, **params) for command, params, _ in COMMANDS]
        self.assertEqual({one.name for one in specs if one.physical}, {"unlock", "sublock_unlock", "raw"})
        once = {"set_password", "set_server", "restart", "sleep", "factory_reset", "records_delete"}
        for one in specs:
            if one.physical or one.name in once:
                self.assertEqual(one.repeats, 1, one.name)

    def test_sources(self) -> None:
        """Each form says where it comes from, and an assumption says that it is one."""
        specs = [self.spec(command, **params) for command, params, _ in COMMANDS]
        for one in specs:
            self.assertTrue(one.description)
            self.assertEqual("[ASM]" in one.source, one.assumed, one.name)
            if one.name != "raw" and not one.assumed:
                self.assertRegex(one.source, r"\[INT\]" if "WLNET" in one.source else r"\[(MAN|195)\]")
        self.assertEqual({one.name for one in specs if one.assumed}, ASSUMED)
        self.assertFalse(self.spec("set_dynamic_passwords", on=True).assumed)

    def test_secrets(self) -> None:
        """Passwords are masked before the lock is known."""
        self.assertEqual(self.profiles.secret_names("set_server"), {"apn_password"})
        self.assertEqual(self.profiles.secret_names("update_firmware"), {"password"})
        self.assertEqual(self.profiles.secret_names("unlock"), {"password"})
        self.assertEqual(self.profiles.secret_names("set_password"), {"new", "old"})


class Jt705Tests(SynchronousTestCase):
    def test_it_is_jt709_under_another_dialect(self) -> None:
        """The same commands and templates, the same assumptions."""
        profiles = load_profiles(allow_raw=True)
        profile, model = profiles.pick("1", "jt705"), profiles.profiles["jt709"]
        assert profile is not None
        self.assertEqual((profile.name, profile.dialect), ("jt705", "jt705"))
        self.assertEqual(set(profile.commands), set(model.commands))
        for name, definition in profile.commands.items():
            other = model.commands[name]
            for mine, its in zip(
                (definition.base, *(variant.spec for variant in definition.variants)),
                (other.base, *(variant.spec for variant in other.variants)),
                strict=True,
            ):
                if mine is None or its is None:
                    self.assertIs(mine, its)
                    continue
                self.assertEqual((mine.template, mine.reply), (its.template, its.reply))
                self.assertEqual((mine.provenance, mine.physical), (its.provenance, its.physical))
                self.assertEqual(mine.profile, "jt705")

    def test_dialects_do_not_mix(self) -> None:
        """A jt701 command is none of a jt705's."""
        profiles = load_profiles()
        profile = profiles.pick("1", "jt705")
        assert profile is not None
        self.assertRaises(InvalidCommand, profiles.validate, Command("i", "1", "cards_clear"), profile)
        rendered = profiles.validate(Command("i", "1", "unlock", {"password": "888888"}), profile).render(NOW)
        self.assertNotIsInstance(rendered, PnnSentence)
