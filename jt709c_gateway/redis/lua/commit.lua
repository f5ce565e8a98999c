-- Writes one batch of records: publishes events, and updates streams, last known state and sessions.
-- One script with commit_checks.lua, commit_state.lua, commit_sessions.lua, commit_conditions.lua and commit_batch.lua,
-- which follow, and the parts that other scripts have, too.
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
-- The number of the last batch, then the indices of its records that could not be written; at the end, after an @,
-- the number of the batch before which Redis had lost data.
local done = call('GET', marker) or '0'
-- Written in every call, also in a repetition: a following WAIT or WAITAOF waits for the last write of its own
-- connection, and so for all earlier ones. And a server that refuses writes (read-only, out of memory, disk full)
-- fails here, before anything is written.
call('SET', marker, done, 'EX', MARKER_TTL)
if number <= tonumber(match(done, '^%d+')) then
  local reply = {-1}
  for index in string.gmatch(done, ' (%d+)') do
    reply[#reply + 1], reply[#reply + 2] = tonumber(index), 'not written at the first attempt'
  end
  return #reply > 1 and reply or -1
end

local lost = match(done, ' @(%d+)')
if number > tonumber(match(done, '^%d+')) + 1 then
  lost = number
end

-- Seconds by which the gateway's clock is behind Redis's, if that exceeds the transit time.
local present, late = call('TIME'), 0
present = present[1] + present[2] / 1000000
if ARGV[6] and math.abs(present - ARGV[6]) > CLOCKS_AGREE then
  late = present - ARGV[6]
end

-- Only after `check_events`.
local function emit(device, kind, json)
  call('PUBLISH', key_channel .. kind .. ':' .. device, json)
  call('XADD', KEYS[1], 'MAXLEN', '~', max_events, '*', 'kind', kind, 'device', device, 'event', json)
  if IN_HISTORY[kind] then
    call('XADD', key_history .. device, 'MAXLEN', '~', max_history, '*',
      'kind', kind, 'device', device, 'event', json)
    rank_history(device, kind, present)
  end
end

-- The state of a device as changed by this batch. It is read once and written once, at the end: a lock that sends
-- its stored reports has many in one batch, and every write goes to disk before the answer.
local devices, changed = {}, {}

local function device_of(name)
  local device = devices[name]
  if not device then
    -- All fields are listed here, so that the table need not grow.
    device = {
      name = name, recent = false, news = false, alarms = false, time = false, location = false, track = false,
      seen = false, seen_at = false, dialect = false, imei = false, firmware = false, lock_state = false,
      battery_percent = false, place = false, skew = false, clock_skew_s = false, records_waiting = false, cards_registered = false,
      clock_set_at = false, failure = false, session = false,
    }
    devices[name] = device
    changed[#changed + 1] = device
  end
  return device
end

-- Reads a device's stored state, once per batch.
local function know(device)
  if not device.alarms then
    local known = call('HMGET', key_device .. device.name, 'alarms', 'location_time', 'session',
      'clock_skew_s')
    device.alarms, device.time = known[1] or '[]', tonumber(known[2] or '0') or 0
    if device.time > present + CLOCKS_AGREE then
      -- A time from before Redis's clock was set back, or of a wrong clock: it makes nothing older.
      device.time = 0
    end
    device.session = device.session or known[3] or ''
    device.skew = tonumber(known[4])
  end
end

-- Raises an error for a message of a session that isn't the device's newest: a paused gateway may still hold the
-- message while the device has been heard elsewhere. Without a known session, none is newer.
local function check_session(device, token)
  know(device)
  if token and device.session ~= '' and device.session ~= token then
    error({err = 'STALE ' .. token})
  end
end

-- Whether a report is among these; if not, the serial (four hex digits) of one with the same content, or nil.
local function is_among(recent, content, serial)
  local from, other = max(1, #recent - max_recent * FINGERPRINT + 1), nil
  while true do
    local at = find(recent, content, from, true)
    if not at then
      return false, other
    end
    if (at - 1) % FINGERPRINT == 0 then
      local its = sub(recent, at + CONTENT, at + FINGERPRINT - 1)
      if its == serial then
        return true
      end
      other = other or its
    end
    from = at + 1
  end
end

-- Whether a report is among the device's last ones, including this batch; if not, the serial of one with the same
-- content, if there is one.
local function is_known(device, fingerprint)
  if not device.recent then
    device.recent, device.news = call('GET', key_recent .. device.name) or '', ''
  end
  local content, serial = sub(fingerprint, 1, CONTENT), sub(fingerprint, CONTENT + 1)
  local known, other = is_among(device.recent, content, serial)
  if not known and device.news ~= '' then
    local later
    known, later = is_among(device.news, content, serial)
    other = other or later
  end
  return known, other
end

-- Returns an event with the serial of the report that it repeats, if any.
local function marked(json, repeats)
  if not repeats then
    return json
  end
  local at = find(json, ',"data":{', 1, true)
  return sub(json, 1, at - 1) .. ',"repeats":' .. tonumber(repeats, 16) .. sub(json, at)
end
