-- Writes everything that one batch of frames causes: publish, streams, last known state, sessions.
-- One script in six files: commit_checks.lua, commit_state.lua, commit_sessions.lua, commit_conditions.lua and
-- commit_batch.lua follow.
--
-- A record is written as a whole or not at all: before its first write everything that it will write is looked at
-- (commit_checks.lua), since what a script has written before a refusal stays, and would be written again each time
-- that the record comes again.
--
-- KEYS[1] the stream of events (all other keys share its hash slot)
-- ARGV[1] prefix   ARGV[2] key of this gateway run's commit marker   ARGV[3] number of the batch
-- ARGV[4] limits, MessagePack: {events, history, malformed, devices, recent, age_ms, track, histories}
-- ARGV[5] records, MessagePack, an array of arrays:
--   1 device          6 state or nil    {dialect, imei, firmware, secret, locations, peripheral, told}
--   2 fingerprint     7 session or nil  what becomes of it: see `sessions` below
--   3 seen, ISO 8601  8 commands or nil: each an array, carried out as it is
--   4 seen, epoch s   locations or nil, one for each live location among the events, in their order:
--     {event index, lock state, battery or nil, alarms as JSON, epoch s or nil, skew or nil};
--     the time is by the lock's clock, nil where it can't be true; that is `skew` seconds ahead of ours for certain
--   5 events {{kind, json}, ...}; of a session that opens a third, told instead when it takes one over
--   9 condition or nil: what has to hold of a command, or nothing of the record is written: see `conditions` below
--   10 token of the session in which the device said it, or nil; from any but its newest nothing is written
--   11 what each event says, as fingerprints begin, or nil; only of a message with several reports
--   12 true where a report that comes again is to be told of, as "KNOWN"
--   peripheral, only where a sub-lock or sensor reports: {id, type, epoch s or nil, lock state or nil, battery}
--   told, only where an answer says so: {field: value} of those in STATE
--   A record whose device is "" is a malformed run: {"", peer, reason, raw, time}.
--   One of 13 is a report with a live location as its one event, and nothing else, as nearly all are: 1 to 4 as
--   above, 5 the event, 6 dialect, 7 imei or nil, 8 to 12 what else is in `location`, 13 token of the session.
--
-- ARGV[6] when the batch is sent, epoch s, by the clock that `seen` goes by
--
-- Returns how many records were duplicates, -1 when the whole batch had been applied before, or, when
-- records could not be written, {that number, index, error, index, error, ...}; indices count from 0. The error is
-- "KNOWN" where that was asked for, "DECLINED" for a session that is offered and not taken, "LATE" where a condition
-- doesn't hold, and "STALE <token>" where the device has a newer session than this one.

local prefix, marker, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local max_events, max_history, max_malformed, max_devices, max_recent, max_age, max_track, max_histories =
  unpack(cmsgpack.unpack(ARGV[4]))
-- As text: a number would be formatted for each event.
max_events, max_history, max_malformed = tostring(max_events), tostring(max_history), tostring(max_malformed)
-- A report is known by what it says, and its serial.
local FINGERPRINT, CONTENT = 16, 12
-- How the array of all records begins, and how a record of 13 does.
local HEAD, LOCATED, LOCATED_VALUES = 3, 0x9d, 13
local MARKER_TTL, RECENT_TTL, SECRET_TTL, ORDERS_TTL, ROUTE_TTL = 86400, 2592000, 86400, 604800, 60
-- Sub-locks and sensors kept per master: more than one sentence can bind to it.
local MAX_PERIPHERALS = 100
-- Devices, and audit trails, beyond the limit that one call lets go of: more than a batch can bring. And seconds for
-- which it is remembered how many of the devices unseen for longest stay, since they have an audit trail.
local MAX_FORGOTTEN, SPARED_TTL, JUST_NOW = 500, 600, 600
-- How audit trails rank: the lowest goes first when there are too many, and of one rank the one that came to it
-- last, so that no trail makes room for one that begins. Commands for a device that was never heard are 0.
local RANK_ALARM, RANK_LOCK, RANK_COMMAND = 1, 2, 3
local RANK = 100000000000
-- Positions by which a track may be too long before it is cut.
local TRACK_SLACK, PART = 50, 500
-- Seconds of which a track has one live position: more would push the older ones out, and be as many writes.
local TRACK_STEP = 10
-- Seconds that a live report may be on its way, and by which a lock's clock may move before that is written anew; both
-- as in lock_clock.py.
local ON_ITS_WAY, STEADY = 20, 2
-- Fields of a device's hash, by the same names in `device_of`.
local STATE = {'dialect', 'imei', 'firmware', 'lock_state', 'battery_percent', 'clock_skew_s', 'records_waiting',
  'cards_registered', 'clock_set_at', 'place'}
-- Seconds by which times that were taken elsewhere may differ from Redis's.
local CLOCKS_AGREE = 2
local IN_HISTORY = {lock = true, alarm = true, command = true}

-- Looked up once, and not for each record.
local call, unpack_limit, pcall, type, unpack = redis.call, cmsgpack.unpack_limit, pcall, type, unpack
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local abs, floor, min, max = math.abs, math.floor, math.min, math.max
-- The number of the last batch, and behind it the indices of those of its records that could not be written; last,
-- behind an @, the number of the batch before which Redis had lost what it had been given.
local done = call('GET', marker) or '0'
-- Written in every call, also in one that is a repetition: WAIT and WAITAOF, when they follow, wait for the last
-- write of their own connection, and so for all that stands before it. And a server that takes no writes
-- (read-only, out of memory, no disk) fails here, before anything is written.
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

-- Seconds by which the gateway's clock is behind Redis's, where that is more than the way here takes.
local present, late = call('TIME'), 0
present = present[1] + present[2] / 1000000
if ARGV[6] and math.abs(present - ARGV[6]) > CLOCKS_AGREE then
  late = present - ARGV[6]
end

-- Keeps the place of a device's audit trail among all of them. Where that fails it has none, and stays.
local function rank_trail(device, kind)
  local rank = kind == 'alarm' and RANK_ALARM or RANK_LOCK
  if kind == 'command' then
    local seen = redis.pcall('HGET', prefix .. ':device:' .. device, 'seen')
    rank = type(seen) == 'string' and RANK_COMMAND or 0
  end
  redis.pcall('ZADD', prefix .. ':histories', 'GT', format('%.3f', rank * RANK - present), device)
end

-- Only after `check_events`.
local function emit(device, kind, json)
  call('PUBLISH', prefix .. ':event:' .. kind .. ':' .. device, json)
  call('XADD', KEYS[1], 'MAXLEN', '~', max_events, '*', 'kind', kind, 'device', device, 'event', json)
  if IN_HISTORY[kind] then
    call('XADD', prefix .. ':history:' .. device, 'MAXLEN', '~', max_history, '*',
      'kind', kind, 'device', device, 'event', json)
    rank_trail(device, kind)
  end
end

-- What the batch has changed of a device so far. It is read once and written once, at the end: a lock that
-- empties its memory has many reports in one batch, and all that is written goes to disk before it is answered.
local devices, changed = {}, {}

local function device_of(name)
  local device = devices[name]
  if not device then
    -- All fields are named here, so that the table need not grow.
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

-- Reads what decides how a record is taken, once in a batch.
local function know(device)
  if not device.alarms then
    local known = call('HMGET', prefix .. ':device:' .. device.name, 'alarms', 'location_time', 'session',
      'clock_skew_s')
    device.alarms, device.time = known[1] or '[]', tonumber(known[2] or '0') or 0
    if device.time > present + CLOCKS_AGREE then
      -- From before Redis's clock was set back, or of a clock that was wrong: it makes nothing older.
      device.time = 0
    end
    device.session = device.session or known[3] or ''
    device.skew = tonumber(known[4])
  end
end

-- Raises an error for what the device said in a session that isn't its newest: a gateway that was paused may have
-- it in its hands still, while the device has been heard elsewhere. Where no session is known, none is newer.
local function check_session(device, token)
  know(device)
  if token and device.session ~= '' and device.session ~= token then
    error({err = 'STALE ' .. token})
  end
end

-- Whether a report is among these; if not, the serial (four hex digits) of one that says the same, or nil.
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

-- Whether a report is among the device's last ones, this batch's included; if not, the serial of one among them
-- that says the same, if there is one.
local function is_known(device, fingerprint)
  if not device.recent then
    device.recent, device.news = call('GET', prefix .. ':recent:' .. device.name) or '', ''
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

-- An event with the serial of the report that it repeats, if it does.
local function marked(json, repeats)
  if not repeats then
    return json
  end
  local at = find(json, ',"data":{', 1, true)
  return sub(json, 1, at - 1) .. ',"repeats":' .. tonumber(repeats, 16) .. sub(json, at)
end
