-- Writes one batch of records: publishes events, and updates streams, last known state and sessions.
-- One script with commit_devices.lua, commit_checks.lua, commit_state.lua, commit_sessions.lua, commit_conditions.lua and
-- commit_batch.lua, which follow, and the parts that other scripts have, too.
--
-- A record is written completely or not at all: commit_checks.lua checks all of its writes before the first one,
-- since writes before a refusal are not undone, and would be repeated with each repetition of the record.
--
-- KEYS[1] the stream of events (all other keys share its hash slot)
-- ARGV[1] prefix   ARGV[2] key of this gateway run's commit marker   ARGV[3] number of the batch
-- ARGV[4] limits, MessagePack: {events, history, malformed, devices, recent, age_ms, track, histories}
-- ARGV[5] records, MessagePack, an array of arrays. The classes in redis/commit_records.py describe their values:
--   EventsRecord: 1 device, 2 fingerprint, 3 seen, 4 seen_at, 5 events, 6 state, 7 session, 8 commands, 9 condition,
--     10 token, 11 keys, 12 must_be_new
--   PositionRecord, known by its 13 values: 1 device, 2 fingerprint, 3 seen, 4 seen_at, 5 event, 6 dialect, 7 imei,
--     8 lock_state, 9 battery_percent, 10 alarms, 11 time, 12 skew, 13 token
--   MalformedRecord, known by its first value, an empty device id: 2 peer, 3 reason, 4 raw, 5 time
-- ARGV[6] time of sending the batch, epoch s, by the same clock as `seen`
--
-- Returns the number of duplicate records, or -1 when the whole batch was applied before. When records could not be
-- written, returns {that number, index, error, index, error, ...}; indices count from 0. The error is "KNOWN" for a
-- repeated report with must_be_new, "DECLINED" for a session that was offered and not accepted, "LATE" when a condition does
-- not hold, and "STALE <token>" when the device has a newer session.

local marker, number = ARGV[2], tonumber(ARGV[3])
local max_events, max_history, max_malformed, max_devices, max_recent, max_age, max_track, max_histories =
  unpack(cmsgpack.unpack(ARGV[4]))
-- As text: a number would be formatted for each event.
max_events, max_history, max_malformed = tostring(max_events), tostring(max_history), tostring(max_malformed)
-- Length of a report's fingerprint, and of its first part, the content; the rest is the serial.
local FINGERPRINT, CONTENT = 16, 12
-- Header of the array of all records, and of a record of 13 values.
local HEAD, LOCATED, LOCATED_VALUES = 3, 0x9d, 13
local MARKER_TTL, RECENT_TTL, SECRET_TTL, COMMANDS_TTL, ROUTE_TTL = 86400, 2592000, 86400, 604800, 60
-- Maximum number of sub-locks and sensors per master: more than one sentence can bind.
local MAX_PERIPHERALS = 100
-- Devices, and audit trails, beyond the limit that one call deletes: more than a batch can add. And seconds for which
-- it is remembered how many of the longest unseen devices are kept because they have an audit trail.
local MAX_FORGOTTEN, SPARED_TTL, JUST_NOW = 500, 600, 600
-- Positions by which a track may exceed its limit before it is trimmed.
local TRACK_SLACK, PART = 50, 500
-- A track has one live position per so many seconds: more would cost writes and push older ones out.
local TRACK_STEP = 10
-- Maximum delay of a live report in seconds, and change of a lock's clock in seconds that is written again; both as
-- in lock_clock.py.
local ON_ITS_WAY, STEADY = 20, 2
-- Fields of a device's hash, with the same names in `device_of`.
local STATE = {'dialect', 'imei', 'firmware', 'lock_state', 'battery_percent', 'clock_skew_s', 'records_waiting',
  'cards_registered', 'clock_set_at', 'place'}
-- Seconds by which times taken elsewhere may differ from Redis's.
local CLOCKS_AGREE = 2
local IN_HISTORY = {lock = true, alarm = true, command = true}

-- Looked up once, and not for each record.
local unpack_limit, pcall, type, unpack = cmsgpack.unpack_limit, pcall, type, unpack
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local abs, floor, min, max = math.abs, math.floor, math.min, math.max
