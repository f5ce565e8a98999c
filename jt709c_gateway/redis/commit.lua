-- Writes everything that one batch of frames causes: publish, streams, last known state, sessions.
--
-- KEYS[1] the stream of events (all other keys share its hash slot)
-- ARGV[1] prefix   ARGV[2] key of this gateway run's commit marker   ARGV[3] number of the batch
-- ARGV[4] limits, MessagePack: {events, history, malformed, devices, recent, age_ms, track}
-- ARGV[5] records, MessagePack, each an array:
--   1 device          6 state or nil    {dialect, imei, firmware, secret, location, peripheral}
--   2 fingerprint     7 session or nil  what becomes of it: see `sessions` below
--   3 seen, ISO 8601  8 commands or nil: each an array, carried out as it is
--   4 seen, epoch s   location: {event index, lock state, battery or nil, alarms, epoch s}
--   5 events {{kind, json}, ...}; of a session that opens a third, told instead when it takes one over
--   9 condition or nil: {hash, field}; without that field nothing of the record is written
--   peripheral, only where a sub-lock or sensor reports: {id, type, epoch s or nil, lock state or nil, battery}
--   A record whose device is "" is a malformed run: {"", peer, reason, raw, time}.
--
-- Returns how many records were duplicates, -1 when the whole batch had been applied before, or, when
-- records could not be written, {that number, index, error, index, error, ...}; indices count from 0.

local prefix, marker, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local max_events, max_history, max_malformed, max_devices, max_recent, max_age, max_track =
  unpack(cmsgpack.unpack(ARGV[4]))
local FINGERPRINT = 16
local MARKER_TTL, RECENT_TTL, SECRET_TTL, ORDERS_TTL, ROUTE_TTL = 86400, 2592000, 86400, 604800, 60
-- Sub-locks and sensors kept per master: more than one sentence can bind to it.
local MAX_PERIPHERALS = 100
-- Devices beyond the limit that one call lets go of: more than a batch can bring.
local MAX_FORGOTTEN = 500
-- Positions by which a track may be too long before it is cut.
local TRACK_SLACK, PART = 50, 500
-- Seconds of which a track has one live position: more would push the older ones out, and be as many writes.
local TRACK_STEP = 10
-- Fields of a device's hash, by the same names in `device_of`.
local STATE = {'dialect', 'imei', 'firmware', 'lock_state', 'battery_percent'}
local IN_HISTORY = {lock = true, alarm = true, command = true}

local call = redis.call
-- The number of the last batch, and behind it the indices of those of its records that could not be written.
local done = call('GET', marker) or '0'
-- Written in every call, also in one that is a repetition: WAIT and WAITAOF, when they follow, wait for the last
-- write of their own connection, and so for all that stands before it. And a server that takes no writes
-- (read-only, out of memory, no disk) fails here, before anything is written.
call('SET', marker, done, 'EX', MARKER_TTL)
if number <= tonumber(string.match(done, '^%d+')) then
  local reply = {-1}
  for index in string.gmatch(done, ' (%d+)') do
    reply[#reply + 1], reply[#reply + 2] = tonumber(index), 'not written at the first attempt'
  end
  return #reply > 1 and reply or -1
end

local function emit(device, kind, json)
  call('PUBLISH', prefix .. ':event:' .. kind .. ':' .. device, json)
  call('XADD', KEYS[1], 'MAXLEN', '~', max_events, '*', 'kind', kind, 'device', device, 'event', json)
  if IN_HISTORY[kind] then
    call('XADD', prefix .. ':history:' .. device, 'MAXLEN', '~', max_history, '*',
      'kind', kind, 'device', device, 'event', json)
  end
end

-- What the batch has changed of a device so far. It is read once and written once, at the end: a lock that
-- empties its memory has many reports in one batch, and all that is written goes to disk before it is answered.
local devices, changed = {}, {}

local function device_of(name)
  local device = devices[name]
  if not device then
    device = {name = name}
    devices[name] = device
    changed[#changed + 1] = device
  end
  return device
end

local function is_among(recent, fingerprint)
  local from = math.max(1, #recent - max_recent * FINGERPRINT + 1)
  while true do
    local at = string.find(recent, fingerprint, from, true)
    if not at then
      return false
    end
    if (at - 1) % FINGERPRINT == 0 then
      return true
    end
    from = at + 1
  end
end

-- Whether a report is among the device's last ones, this batch's included.
local function is_known(device, fingerprint)
  if not device.recent then
    device.recent, device.news = call('GET', prefix .. ':recent:' .. device.name) or '', ''
  end
  return is_among(device.recent, fingerprint) or device.news ~= '' and is_among(device.news, fingerprint)
end

-- One alarm event, made of the location event that shows the change: same envelope, other kind and data.
local function alarm_event(json, order, name, active)
  local at = string.find(json, ',"data":{"time":', 1, true)
  local head = string.sub(json, 1, at - 1)
  local time, latitude, longitude = string.match(json,
    '^{"time":(.-),"fix":.-,"latitude":(.-),"longitude":(.-),', at + 8)
  head = string.gsub(head, '^{"v":(%d+),"id":"(.-)","kind":"location"', function(version, id)
    return '{"v":' .. version .. ',"id":"' .. id .. '.' .. order .. '","kind":"alarm"'
  end, 1)
  return head .. ',"data":{"time":' .. time .. ',"name":"' .. name .. '","active":' .. tostring(active)
    .. ',"latitude":' .. latitude .. ',"longitude":' .. longitude .. '}}'
end

-- Notes where the device was, in the order of arrival: a report from the lock's memory is of an earlier time.
local function note_position(device, json)
  if max_track == 0 then
    return
  end
  local at = string.find(json, ',"data":{', 1, true)
  local time, latitude, longitude, speed, course = string.match(json,
    '^"time":("[^"]*"),"fix":"%a+","latitude":([^,]+),"longitude":([^,]+),"altitude_m":[^,]+,"speed_kmh":([^,]+),'
    .. '"course_deg":([^,]+),', at + 9)
  if time and latitude ~= 'null' and longitude ~= 'null' then
    device.track = device.track or {}
    device.track[#device.track + 1] = '[' .. table.concat({time, latitude, longitude, speed, course}, ',') .. ']'
  end
end

local function compare_alarms(device, known, alarms, json)
  local before, now, order = {}, {}, 0
  for name in string.gmatch(known, '"(.-)"') do
    before[name] = true
  end
  for _, name in ipairs(alarms) do
    now[name] = true
    if not before[name] then
      order = order + 1
      emit(device, 'alarm', alarm_event(json, order, name, true))
    end
  end
  for name in string.gmatch(known, '"(.-)"') do
    if not now[name] then
      order = order + 1
      emit(device, 'alarm', alarm_event(json, order, name, false))
    end
  end
end

-- Takes in what a live location says of the device's state; an older one than the last changes nothing.
local function locate(device, location, events, seen)
  local index, lock_state, battery, alarms, time = unpack(location, 1, 5)
  if not device.alarms then
    local known = call('HMGET', prefix .. ':device:' .. device.name, 'alarms', 'location_time')
    device.alarms, device.time = known[1] or '[]', tonumber(known[2] or '0') or 0
  end
  time = math.min(time or seen, seen)
  local older = time < device.time
  if older or math.floor(time / TRACK_STEP) ~= math.floor(device.time / TRACK_STEP) then
    note_position(device, events[index + 1][2])
  end
  if older then
    return
  end
  local shown = '[]'
  if #alarms > 0 then
    shown = '["' .. table.concat(alarms, '","') .. '"]'
  end
  if shown ~= device.alarms then
    compare_alarms(device.name, device.alarms, alarms, events[index + 1][2])
  end
  device.alarms, device.time, device.location = shown, math.floor(time), events[index + 1][2]
  device.lock_state = lock_state or device.lock_state
  device.battery_percent = battery or device.battery_percent
end

-- The lock has said its IMEI, which isn't its id: what waits under the IMEI waits for the lock from now on.
local function take_name(device, imei)
  local names = prefix .. ':imei'
  local before = device.imei or call('HGET', prefix .. ':device:' .. device.name, 'imei')
  if before and before ~= imei and call('HGET', names, before) == device.name then
    call('HDEL', names, before)
  end
  local from, to = prefix .. ':commands:waiting:' .. imei, prefix .. ':commands:waiting:' .. device.name
  local orders = call('LRANGE', from, 0, -1)
  for _, order in ipairs(orders) do
    -- Whose it is, is what its record says.
    call('HSET', prefix .. ':command:' .. cjson.decode(order)['id'], 'device', device.name)
    call('RPUSH', to, order)
  end
  if #orders > 0 then
    call('DEL', from)
    call('EXPIRE', to, ORDERS_TTL)
  end
end

local function forget_peripheral(device, id)
  local key = prefix .. ':peripheral:' .. id
  if call('HGET', key, 'device') == device then
    call('DEL', key)
  end
end

-- Keeps what a sub-lock or sensor last said, and through which master; an older report changes nothing.
local function remember_peripheral(device, seen_iso, seen, peripheral)
  local id, kind, time, lock_state, battery = unpack(peripheral, 1, 5)
  local key, ours = prefix .. ':peripheral:' .. id, prefix .. ':peripherals:' .. device
  local known = call('HMGET', key, 'device', 'time')
  time = math.floor(math.min(time or seen, seen))
  if time < (tonumber(known[2] or '0') or 0) then
    return
  end
  if known[1] and known[1] ~= device then
    call('ZREM', prefix .. ':peripherals:' .. known[1], id)
  end
  local fields = {'device', device, 'seen', seen_iso, 'type', kind, 'time', string.format('%d', time),
    'battery_percent', battery}
  if lock_state then
    fields[#fields + 1], fields[#fields + 2] = 'lock_state', lock_state
  end
  call('HSET', key, unpack(fields))
  call('ZADD', ours, string.format('%.3f', seen), id)
  if call('ZCARD', ours) > MAX_PERIPHERALS then
    forget_peripheral(device, call('ZPOPMIN', ours)[1])
  end
end

local function remember(device, record)
  local dialect, imei, firmware, secret, location, peripheral = unpack(record[6], 1, 6)
  device.seen, device.seen_at = record[3], record[4]
  device.dialect = dialect or device.dialect
  device.firmware = firmware or device.firmware
  if imei and imei ~= device.imei then
    if imei ~= device.name then
      take_name(device, imei)
    end
    call('HSET', prefix .. ':imei', imei, device.name)
    device.imei = imei
  end
  if secret then
    call('SET', prefix .. ':secret:' .. device.name, secret, 'EX', SECRET_TTL)
  end
  if location then
    locate(device, location, record[5], record[4])
  end
  if peripheral then
    remember_peripheral(device.name, record[3], record[4], peripheral)
  end
end

-- Fingerprints of a device's reports stand in one string, newest last. It is appended to, and cut only when it
-- is twice as long as it has to be.
local function write_reports(device)
  local key, kept = prefix .. ':recent:' .. device.name, max_recent * FINGERPRINT
  if device.recent ~= '' and #device.recent + #device.news <= 2 * kept then
    call('APPEND', key, device.news)
  else
    call('SET', key, string.sub(device.recent .. device.news, -kept), 'EX', RECENT_TTL)
  end
end

local function write_state(device)
  local fields = {'seen', device.seen}
  for _, name in ipairs(STATE) do
    if device[name] then
      fields[#fields + 1], fields[#fields + 2] = name, device[name]
    end
  end
  local location = device.location
  if location then
    local n = #fields
    local at = string.find(location, ',"data":{', 1, true)
    fields[n + 1], fields[n + 2] = 'location', string.sub(location, at + 8, -2)
    fields[n + 3], fields[n + 4] = 'alarms', device.alarms
    fields[n + 5], fields[n + 6] = 'location_time', string.format('%d', device.time)
  end
  call('HSET', prefix .. ':device:' .. device.name, unpack(fields))
end

local function write_track(device)
  local key, track, length = prefix .. ':track:' .. device.name, device.track, 0
  -- In parts, since only so much can be unpacked: a lock's whole memory may be in one message.
  for from = 1, #track, PART do
    length = call('RPUSH', key, unpack(track, from, math.min(from + PART - 1, #track)))
  end
  if length > max_track + TRACK_SLACK then
    call('LTRIM', key, -max_track, -1)
  end
end

local function write_device(device)
  -- Before the time of the last location: if this fails, the position still counts as one of a new span.
  if device.track then
    write_track(device)
  end
  if device.seen then
    write_state(device)
  end
  if device.news and device.news ~= '' then
    write_reports(device)
  end
end

-- A session's token is `<gateway>/<run>-<number>`.
local function gateway_of(token)
  return token and string.match(token, '^(.*)/')
end

-- The set of devices that are online at a gateway, as far as anybody has been told.
local function online_at(gateway)
  return prefix .. ':sessions:' .. gateway
end

-- Has a gateway look what has become of its session of a device, as order_accept.lua does for orders.
local function tell(gateway, device)
  if call('EXISTS', prefix .. ':gateway:' .. gateway) == 1 then
    local route = prefix .. ':commands:route:' .. gateway
    call('RPUSH', route, device)
    call('EXPIRE', route, ROUTE_TTL)
  end
end

local function write_session(key, session)
  call('HSET', key, 'token', session[2], unpack(session, 4))
  call('EXPIRE', key, session[3])
end

-- What can become of a session. Each is given the device, the key of its session, the token of the session that
-- is known there or false, and the record's session; it returns whether the record's events are to be told,
-- 'taken over' for the other form of them.
local sessions = {}

-- {"open", token, ttl, field, value, ...}: a device has come, or has come anew.
function sessions.open(device, key, known, session)
  local gateway, before = gateway_of(session[2]), gateway_of(known)
  call('SADD', online_at(gateway), device)
  if before and before ~= gateway then
    call('SREM', online_at(before), device)
    tell(before, device)
  end
  call('DEL', key)
  write_session(key, session)
  return known and known ~= session[2] and 'taken over' or true
end

-- {"keep", token, ttl}: it has spoken again.
function sessions.keep(device, key, known, session)
  if known == session[2] then
    call('EXPIRE', key, session[3])
  else
    tell(gateway_of(session[2]), device)
  end
  return true
end

-- {"affirm", token, ttl, field, value, ...}: it is there still, though Redis may have lost its session, or
-- another gateway may have told that it is offline.
function sessions.affirm(device, key, known, session)
  local gateway = gateway_of(session[2])
  if known and known ~= session[2] then
    tell(gateway, device)
    return false
  end
  write_session(key, session)
  return call('SADD', online_at(gateway), device) == 1
end

-- {"close", token}: it is gone, which is told unless it is elsewhere by now, or that has been told.
function sessions.close(device, key, known, session)
  if known and known ~= session[2] then
    return false
  end
  call('DEL', key)
  return call('SREM', online_at(gateway_of(session[2])), device) == 1 or known == session[2]
end

-- {"lost", gateway, "1" when it is gone for certain, how tokens of its present run begin}: its gateway has died.
function sessions.lost(device, key, known, session)
  local gateway, gone, living = session[2], session[3] == '1', session[4]
  if not gone and call('EXISTS', prefix .. ':gateway:' .. gateway) == 1
    or known and string.sub(known, 1, #living) == living
    or call('SREM', online_at(gateway), device) == 0 then
    return false
  end
  if known and gateway_of(known) ~= gateway then
    return false
  end
  call('DEL', key)
  return true
end

local function change_session(device, session)
  local key = prefix .. ':session:' .. device
  return sessions[session[1]](device, key, call('HGET', key, 'token'), session)
end

-- True when the record is a report that had been committed before.
local function apply(record)
  if record[1] == '' then
    call('XADD', prefix .. ':malformed', 'MAXLEN', '~', max_malformed, '*',
      'peer', record[2], 'reason', record[3], 'raw', record[4], 'time', record[5])
    return false
  end
  local condition = record[9]
  if condition and not call('HGET', condition[1], condition[2]) then
    error({err = 'another gateway has the order'})
  end
  local device, fingerprint = device_of(record[1]), record[2]
  if fingerprint and is_known(device, fingerprint) then
    -- What a report that comes again says besides has not been said before for certain.
    local secret = record[6] and record[6][4]
    if secret then
      call('SET', prefix .. ':secret:' .. device.name, secret, 'EX', SECRET_TTL)
    end
    if record[7] then
      change_session(device.name, record[7])
    end
    return true
  end
  local told = true
  if record[7] then
    told = change_session(device.name, record[7])
  end
  if told then
    local live = record[6] and record[6][5]
    for index, event in ipairs(record[5]) do
      emit(device.name, event[1], told == 'taken over' and event[3] or event[2])
      if event[1] == 'location' and not (live and live[1] == index - 1) then
        note_position(device, event[2])
      end
    end
  end
  if record[6] then
    remember(device, record)
  end
  if record[8] then
    for _, command in ipairs(record[8]) do
      call(unpack(command))
    end
  end
  if fingerprint then
    device.news = device.news .. fingerprint
  end
  return false
end

-- Keeps what the caps promise: the stream's age, and the number of devices that anything is known of.
local function tidy()
  if max_age > 0 then
    local now = call('TIME')
    call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', now[1] * 1000 - max_age))
  end
  local too_many = call('ZCARD', prefix .. ':devices') - max_devices
  if too_many <= 0 then
    return
  end
  local oldest = call('ZPOPMIN', prefix .. ':devices', math.min(too_many, MAX_FORGOTTEN))
  for i = 1, #oldest, 2 do
    local device = oldest[i]
    local imei = call('HGET', prefix .. ':device:' .. device, 'imei')
    if imei and call('HGET', prefix .. ':imei', imei) == device then
      call('HDEL', prefix .. ':imei', imei)
    end
    local peripherals = call('ZPOPMIN', prefix .. ':peripherals:' .. device, MAX_PERIPHERALS)
    for at = 1, #peripherals, 2 do
      forget_peripheral(device, peripherals[at])
    end
    call('DEL', prefix .. ':device:' .. device, prefix .. ':recent:' .. device, prefix .. ':history:' .. device,
      prefix .. ':track:' .. device)
  end
end

local records, errors, duplicates = cmsgpack.unpack(ARGV[5]), {}, 0

local function reason_of(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

for index, record in ipairs(records) do
  local ok, result = pcall(apply, record)
  if not ok then
    errors[index] = reason_of(result)
  elseif result then
    duplicates = duplicates + 1
  end
end
local seen = {}
for _, device in ipairs(changed) do
  local ok, result = pcall(write_device, device)
  device.failure = not ok and reason_of(result)
  if device.seen then
    seen[#seen + 1], seen[#seen + 2] = string.format('%.3f', device.seen_at), device.name
  end
end
local listed, result = true, nil
if #seen > 0 then
  listed, result = pcall(call, 'ZADD', prefix .. ':devices', unpack(seen))
end

local failures, failed = {}, ''
for index, record in ipairs(records) do
  local failure, device = errors[index], devices[record[1]]
  if device and not failure and (record[2] or record[6]) then
    -- What the record changed of its device may not have been written: it has to come again.
    failure = device.failure or record[6] and not listed and reason_of(result)
  end
  if failure then
    failed = failed .. ' ' .. (index - 1)
    failures[#failures + 1] = index - 1
    failures[#failures + 1] = failure
  end
end

-- What goes wrong in here must not make the caller repeat a batch that has been written.
pcall(tidy)
call('SET', marker, number .. failed, 'EX', MARKER_TTL)
if #failures > 0 then
  return {duplicates, unpack(failures)}
end
return duplicates
