"""The names of commands, which all dialects share (docs/commands.rst, "What locks understand").

A profile maps a name to the form that a dialect understands. Profiles of operators may add names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CANCEL: Final = "cancel"
LOCAL_COMMANDS: Final[Mapping[str, str]] = {
    CANCEL: "Cancel a command that has not been sent yet (params.id).",
    "clear_lockout": "Allow unlocks again after two wrong passwords in a row.",
}
"""Commands that the gateway carries out itself, without sending anything to a lock."""

CATALOGUE: Final[Mapping[str, str]] = {
    "unlock": "Open the lock with its static or dynamic password.",
    "seal": "Close the lock.",
    "set_password": "Change the static password.",
    "set_dynamic_passwords": "Switch dynamic passwords on or off.",
    "cards_add": "Let RFID cards open the lock.",
    "cards_remove": "Take RFID cards from the list.",
    "cards_clear": "Take all RFID cards from the list.",
    "cards_list": "Read the list of RFID cards.",
    "cards_register": "Register each RFID card that is held to the lock, for a minute.",
    "set_cards_only_in_fence": "Choose whether cards open the lock only inside a fence.",
    "set_auto_lock": "Set after how long an opened lock locks itself.",
    "set_unlock_channels": "Choose which channels may open the lock.",
    "set_intervals": "Set how often the lock reports, awake and asleep.",
    "set_tracking": "Switch the tracking mode on or off.",
    "set_alarms": "Switch alarms on or off.",
    "set_low_battery": "Set the charge below which the low battery alarm rises.",
    "set_open_alarm": "Set how long the lock may stand open before its alarm rises.",
    "set_open_alarm_again": "Set how long after its first alarm an open lock raises the second.",
    "set_deep_sleep": "Set below which charge the unit goes to deep sleep.",
    "set_vibration": "Set the acceleration that counts as vibration.",
    "set_mileage": "Set the mileage that the unit counts on from.",
    "set_mileage_speed": "Set the speed that belongs to the mileage.",
    "set_lock_report_fields": "Choose what lock reports have besides.",
    "set_corners": "Have the unit report when it turns.",
    "set_fence": "Define a fence.",
    "delete_fence": "Delete one fence.",
    "fences_configured": "Say that the fences are configured now.",
    "set_server": "Set the server and the access point.",
    "query": "Query one value (params.what): firmware, imei, sim, intervals, channels and so on.",
    "locate": "Query the current position.",
    "restart": "Restart the unit.",
    "sleep": "Send the unit to sleep.",
    "factory_reset": "Reset all settings to the factory defaults.",
    "set_time_zone": "Set the time zone of the SMS that the unit writes.",
    "set_vip_number": "Set one of the telephone numbers that the unit obeys.",
    "set_vip_sms": "Choose which telephone numbers get SMS.",
    "set_power_key": "Set what the power key does.",
    "set_drift": "Set how drift of the position is suppressed.",
    "set_alias": "Set the unit's alias.",
    "set_waking": "Set how calls and SMS wake the unit.",
    "set_gnss_saving": "Set how the GNSS receiver saves energy.",
    "records_delete": "Delete all reports that wait in the unit's memory.",
    "update_firmware": "Have the unit fetch new firmware.",
    "stop_update": "Stop fetching firmware.",
    "sync_time": "Set the unit's clock to UTC.",
    "sublock_unlock": "Open a sub-lock through its master.",
    "set_sublock_intervals": "Set how often the sub-locks behind a master report.",
    "set_sensor_interval": "Set how often the sensors behind a master report.",
    "sublock_list": "List the sub-locks bound to a master.",
    "sublock_bind": "Replace the list of sub-locks bound to a master.",
    "sublock_unbind_all": "Unbind all sub-locks of a master.",
    "set_parameters": "Set JT/T 808 parameters.",
    "get_parameters": "Read JT/T 808 parameters.",
    "text": "Send a text message.",
    "raw": "Send bytes or a sentence as they are; off unless the gateway allows it.",
    **LOCAL_COMMANDS,
}
"""Each name with a description of one line."""

ALIASES: Final[Mapping[str, str]] = {"unseal": "unlock", "lock": "seal"}


def canonical(name: str) -> str:
    """Resolve an alias; other names are returned unchanged."""
    return ALIASES.get(name, name)
