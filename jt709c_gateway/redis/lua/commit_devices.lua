-- Second part of commit.lua: whether the batch was applied before, and what is known of its devices.

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
