-- Fourth part of commit.lua: alarms, positions, peripherals, and the last known state of a device.

-- Makes an alarm event from the location event with the change: same envelope, other kind and data.
local function alarm_event(json, command, name, active)
  local at = find(json, ',"data":{"time":', 1, true)
  local head = sub(json, 1, at - 1)
  local time, latitude, longitude = match(json,
    '^{"time":(.-),"fix":.-,"latitude":(.-),"longitude":(.-),', at + 8)
  head = string.gsub(head, '^{"v":(%d+),"id":"(.-)","kind":"location"', function(version, id)
    return '{"v":' .. version .. ',"id":"' .. id .. '.' .. command .. '","kind":"alarm"'
  end, 1)
  return head .. ',"data":{"time":' .. time .. ',"name":"' .. name .. '","active":' .. tostring(active)
    .. ',"latitude":' .. latitude .. ',"longitude":' .. longitude .. '}}'
end

-- Adds a position to the track, in the order of arrival: a stored report has an earlier time.
local function note_position(device, json)
  if max_track == 0 then
    return
  end
  local at = find(json, ',"data":{', 1, true)
  local time, latitude, longitude, speed, course = match(json,
    '^"time":("[^"]*"),"fix":"%a+","latitude":([^,]+),"longitude":([^,]+),"altitude_m":[^,]+,"speed_kmh":([^,]+),'
    .. '"course_deg":([^,]+),', at + 9)
  if time and latitude ~= 'null' and longitude ~= 'null' then
    device.track = device.track or {}
    device.track[#device.track + 1] = '[' .. table.concat({time, latitude, longitude, speed, course}, ',') .. ']'
  end
end

-- Returns the position of a location event as JSON; nil without a position, or without a fix.
local function place_of(device, json)
  local at = find(json, ',"data":{', 1, true)
  local time, fix, latitude, longitude = match(json,
    '^"time":([^,]+),"fix":"([gl]%a+)","latitude":([^,n]+),"longitude":([^,n]+),', at + 9)
  return time and '{"time":' .. time .. ',"seen":"' .. device.seen .. '","fix":"' .. fix .. '","latitude":' .. latitude
    .. ',"longitude":' .. longitude .. '}'
end

-- Publishes which alarms began, then which ended; both lists are JSON.
local function compare_alarms(device, before, now, json)
  local command = 0
  local function tell(list, other, active)
    for name in string.gmatch(list, '"(.-)"') do
      if not find(other, '"' .. name .. '"', 1, true) then
        command = command + 1
        emit(device, 'alarm', alarm_event(json, command, name, active))
      end
    end
  end
  tell(now, before, true)
  tell(before, now, false)
end

-- Returns the time of a live report by our clock. If its own time can't be right, that is its arrival.
local function happened(device, seen, time, skew)
  if not time then
    return seen
  end
  skew = skew or device.skew
  if not skew then
    if time < seen - ON_ITS_WAY then
      return time
    end
    skew = time - seen
  end
  local known = device.skew or 0
  if abs(skew - known) > STEADY then
    known = floor(skew + 0.5)
  end
  if known ~= device.skew then
    device.skew, device.clock_skew_s = known, known
  end
  if skew > 0 and time <= seen then
    -- A clock that was ahead and shows no future time: most likely it was corrected.
    return time
  end
  return min(time - skew, seen)
end

-- Updates the device's state from a live location; one older than the last changes nothing.
local function locate(device, json, seen, lock_state, battery, alarms, time, skew)
  -- The track's steps are measured by the lock's clock.
  local step_before = floor((device.time + (device.skew or 0)) / TRACK_STEP)
  time = happened(device, seen, time, skew)
  local older = time < device.time
  if older or floor((time + (device.skew or 0)) / TRACK_STEP) ~= step_before then
    note_position(device, json)
  end
  if older then
    return
  end
  if alarms ~= device.alarms then
    compare_alarms(device.name, device.alarms, alarms, json)
  end
  device.alarms, device.time, device.location = alarms, floor(time), json
  device.place = place_of(device, json) or device.place
  device.lock_state = lock_state or device.lock_state
  device.battery_percent = battery or device.battery_percent
end

-- The lock has reported its IMEI, which isn't its id: commands that wait under the IMEI are moved to the id.
local function take_name(device, imei)
  local before = device.imei or call('HGET', key_device .. device.name, 'imei')
  local ours = key_device .. device.name
  if before and before ~= imei and call('HGET', key_imei, before) == device.name then
    -- The previous device with this IMEI gets it back if its state still has it.
    local owner = call('HGET', ours, 'imei_taken_from')
    if owner and owner ~= '' and call('HGET', key_device .. owner, 'imei') == before then
      call('HSET', key_imei, before, owner)
    else
      call('HDEL', key_imei, before)
    end
  end
  local holder = call('HGET', key_imei, imei)
  if holder and holder ~= device.name then
    call('HSET', ours, 'imei_taken_from', holder)
  elseif before then
    call('HSET', ours, 'imei_taken_from', '')
  end
  local from, to = key_waiting .. imei, key_waiting .. device.name
  local commands = call('LRANGE', from, 0, -1)
  local ids = ids_of(commands)
  for index, command in ipairs(commands) do
    if ids[index] then
      -- The record of a command names its device.
      call('HSET', key_command .. ids[index], 'device', device.name)
    end
    call('RPUSH', to, command)
  end
  if #commands > 0 then
    call('DEL', from)
    call('EXPIRE', to, COMMANDS_TTL)
  end
end

local function forget_peripheral(device, id)
  local key = key_peripheral .. id
  -- A key of another type is not ours and is not deleted.
  if redis.pcall('HGET', key, 'device') == device then
    call('DEL', key)
  end
end

-- Stores the last state of a sub-lock or sensor, and its master; an older report changes nothing.
local function remember_peripheral(device, seen_iso, seen, peripheral)
  local id, kind, time, lock_state, battery = unpack(peripheral, 1, 5)
  local key, ours = key_peripheral .. id, key_peripherals .. device
  local known = call('HMGET', key, 'device', 'time')
  time = floor(min(time or seen, seen))
  local last = tonumber(known[2] or '0') or 0
  if time < last and last <= present + CLOCKS_AGREE then
    return
  end
  if known[1] and known[1] ~= device then
    call('ZREM', key_peripherals .. known[1], id)
  end
  local fields = {'device', device, 'seen', seen_iso, 'type', kind, 'time', format('%d', time),
    'battery_percent', battery}
  if lock_state then
    fields[#fields + 1], fields[#fields + 2] = 'lock_state', lock_state
  end
  call('HSET', key, unpack(fields))
  call('ZADD', ours, format('%.3f', seen), id)
  if call('ZCARD', ours) > MAX_PERIPHERALS then
    forget_peripheral(device, call('ZPOPMIN', ours)[1])
  end
end

local function recognise(device, seen, seen_at, dialect, imei)
  device.seen, device.seen_at = seen, seen_at
  device.dialect = dialect or device.dialect
  if imei and imei ~= device.imei then
    if imei ~= device.name then
      take_name(device, imei)
    end
    call('HSET', key_imei, imei, device.name)
    device.imei = imei
  end
end

-- Store a dynamic password, nil when the record has none; an empty one says that the lock has none.
local function keep_secret(name, secret)
  if secret == '' then
    call('DEL', key_secret .. name)
  elseif secret then
    call('SET', key_secret .. name, secret, 'EX', SECRET_TTL)
  end
end

local function remember(device, record)
  local dialect, imei, firmware, secret, positions, peripheral, reply_state = unpack(record[6], 1, 7)
  local seen_at = record[4] + late
  recognise(device, record[3], seen_at, dialect, imei)
  device.firmware = firmware or device.firmware
  for name, value in pairs(reply_state or {}) do
    device[name] = value
  end
  keep_secret(device.name, secret)
  for _, position in ipairs(positions or {}) do
    locate(device, record[5][position[1] + 1][2], seen_at, unpack(position, 2, 6))
  end
  if peripheral then
    remember_peripheral(device.name, record[3], seen_at, peripheral)
  end
end

-- The fingerprints of a device's reports are in one string, newest last. It is trimmed only when it is twice as long
-- as needed.
local function write_reports(device)
  local key, kept = key_recent .. device.name, max_recent * FINGERPRINT
  if device.recent ~= '' and #device.recent + #device.news <= 2 * kept then
    call('APPEND', key, device.news)
  else
    call('SET', key, sub(device.recent .. device.news, -kept), 'EX', RECENT_TTL)
  end
end

local fields = {}

local function write_state(device)
  fields[1], fields[2] = 'seen', device.seen
  local n = 2
  for _, name in ipairs(STATE) do
    if device[name] then
      fields[n + 1], fields[n + 2] = name, device[name]
      n = n + 2
    end
  end
  local location = device.location
  if location then
    local at = find(location, ',"data":{', 1, true)
    fields[n + 1], fields[n + 2] = 'location', sub(location, at + 8, -2)
    fields[n + 3], fields[n + 4] = 'alarms', device.alarms
    fields[n + 5], fields[n + 6] = 'location_time', format('%d', device.time)
    n = n + 6
  end
  call('HSET', key_device .. device.name, unpack(fields, 1, n))
end

local function write_track(device)
  local key, track, length = key_track .. device.name, device.track, 0
  -- In parts, since unpack is limited: one message may contain all stored reports of a lock.
  for from = 1, #track, PART do
    length = call('RPUSH', key, unpack(track, from, min(from + PART - 1, #track)))
  end
  if length > max_track + TRACK_SLACK then
    call('LTRIM', key, -max_track, -1)
  end
end

local function write_device(device)
  -- Before the time of the last location: if this fails, the position still starts a new span.
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
