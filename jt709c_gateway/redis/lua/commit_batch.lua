-- Last part of commit.lua: applies the records of a batch, one by one, then writes the changed states.

-- Checks that the new content of a record can be written.
local function check_news(device, record)
  local state = record[6]
  local live = state and state[5]
  for _, event in ipairs(record[5]) do
    check_event(device.name, event[1])
    if event[1] == 'location' and not live then
      check_track(device)
    end
  end
  if state then
    check_state(device)
    if state[2] and state[2] ~= device.imei then
      check_name(device, state[2])
    end
    for _, location in ipairs(live or {}) do
      check_location(device, location[4])
    end
    if state[6] then
      check_peripheral(device, state[6][1])
    end
  end
  if record[8] then
    check_commands(record[8])
  end
end

-- Checks that a record can be written; a `known` report is not published again.
local function check(device, record, known)
  if record[6] and record[6][4] then
    check_secret(device)
  end
  if record[7] then
    check_sessions(device.name, record[7])
  end
  if not known then
    if record[2] then
      check_report(device)
    end
    check_news(device, record)
  end
end

-- Notes the last positions of a message by their fingerprints; earlier reports keep half of the room.
local function note_reports(device, events, fingerprints)
  for index = max(1, #events - floor(max_recent / 2) + 1), #events do
    local its = fingerprints[index]
    if events[index][1] == 'location' and find(its, '^%x') then
      device.news = device.news .. its
    end
  end
end

-- Applies a record; returns true when it is a report that was committed before.
local function apply(record)
  if record[1] == '' then
    call('XADD', key_malformed, 'MAXLEN', '~', max_malformed, '*',
      'peer', record[2], 'reason', record[3], 'raw', record[4], 'time', record[5])
    return false
  end
  local device, fingerprint = device_of(record[1]), record[2]
  if record[10] then
    check_session(device, record[10])
  end
  if record[9] then
    check_condition(record[9], device)
  end
  local known, repeats
  if fingerprint then
    known, repeats = is_known(device, fingerprint)
  end
  check(device, record, known)
  if known then
    -- The other content of a repeated report was not necessarily committed before.
    keep_secret(device.name, record[6] and record[6][4])
    if record[7] then
      change_session(device.name, record[7])
    end
    if record[12] then
      error({err = 'KNOWN'})
    end
    return true
  end
  local change = true
  if record[7] then
    change = change_session(device.name, record[7])
  end
  if change then
    local live = record[6] and record[6][5]
    for index, event in ipairs(record[5]) do
      local of = record[11] and select(2, is_known(device, sub(record[11][index], 1, CONTENT))) or repeats
      event[2] = marked(event[2], of)
      emit(device.name, event[1], change == 'taken over' and event[3] or event[2])
      if event[1] == 'location' and not live then
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
  if record[11] and device.news then
    note_reports(device, record[5], record[11])
  end
  if fingerprint then
    device.news = device.news .. fingerprint
  end
  return false
end

-- The same for a report with one live location only.
local function apply_located(device, fingerprint, seen, seen_at, json, dialect, imei, lock_state, battery, alarms,
  time, skew, token)
  device = device_of(device)
  check_session(device, token)
  local known, repeats = is_known(device, fingerprint)
  if known then
    return true
  end
  json = marked(json, repeats)
  check_report(device)
  check_event(device.name, 'location')
  check_location(device, alarms)
  if imei and imei ~= device.imei then
    check_name(device, imei)
  end
  emit(device.name, 'location', json)
  seen_at = seen_at + late
  recognise(device, seen, seen_at, dialect, imei)
  locate(device, json, seen_at, lock_state, battery, alarms, time, skew)
  device.news = device.news .. fingerprint
  return false
end

local function forget_device(device)
  local imei = call('HGET', key_device .. device, 'imei')
  if imei and call('HGET', key_imei, imei) == device then
    call('HDEL', key_imei, imei)
  end
  local peripherals = call('ZPOPMIN', key_peripherals .. device, MAX_PERIPHERALS)
  for at = 1, #peripherals, 2 do
    forget_peripheral(device, peripherals[at])
  end
  call('ZREM', key_devices, device)
  call('DEL', key_device .. device, key_recent .. device, key_track .. device)
end

local function unseen_longest(until_when, from, count)
  return call('ZRANGEBYSCORE', key_devices, '-inf', until_when, 'LIMIT', from, count)
end

-- Deletes the state of so many devices: the longest unseen ones without an audit trail, or, if all have one, the
-- longest unseen ones. A device that was heard just now is kept, since it may repeat its last reports.
local function forget_devices(too_many)
  local gone = 0
  local spared = tonumber(call('GET', key_spared) or '0')
  local oldest = unseen_longest(format('%.3f', present - JUST_NOW), spared, MAX_FORGOTTEN)
  for _, device in ipairs(oldest) do
    if gone == too_many then
      break
    elseif call('EXISTS', key_history .. device) == 1 then
      spared = spared + 1
    else
      forget_device(device)
      gone = gone + 1
    end
  end
  if gone < too_many and #oldest < MAX_FORGOTTEN then
    spared = 0
    for _, device in ipairs(unseen_longest('+inf', 0, min(too_many - gone, MAX_FORGOTTEN))) do
      forget_device(device)
      gone = gone + 1
    end
  end
  call('SET', key_spared, spared, 'EX', SPARED_TTL)
  call('HINCRBY', key_let_go, 'devices', gone)
end

local function forget_histories(too_many)
  local lowest = call('ZPOPMIN', key_histories, min(too_many, MAX_FORGOTTEN))
  for i = 1, #lowest, 2 do
    call('DEL', key_history .. lowest[i])
  end
  call('HINCRBY', key_let_go, 'histories', #lowest / 2)
end

-- Enforces the limits: the age of the stream, the number of known devices, and the number of audit trails.
local function tidy()
  if max_age > 0 then
    call('XTRIM', KEYS[1], 'MINID', '~', format('%.0f', present * 1000 - max_age))
  end
  local too_many = call('ZCARD', key_devices) - max_devices
  if too_many > 0 then
    forget_devices(too_many)
  end
  too_many = call('ZCARD', key_histories) - max_histories
  if too_many > 0 then
    forget_histories(too_many)
  end
end

local packed, position, count = ARGV[5], HEAD, 0
-- By the number of the record: the reason why it could not be written, and the device whose state it changes.
local errors, owners, duplicates = {}, {}, 0

local function reason_of(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

-- The next record's device, and whether the record changes its state; then the result of applying it.
local function carry_out(from, device, ...)
  position = from
  if type(device) ~= 'table' then
    return device, true, pcall(apply_located, device, ...)
  end
  return device[1], device[2] or device[6], pcall(apply, device)
end

local function following()
  if byte(packed, position + 1) == LOCATED then
    return carry_out(unpack_limit(packed, LOCATED_VALUES, position + 1))
  end
  return carry_out(unpack_limit(packed, 1, position))
end

while position >= 0 and position < #packed do
  local name, keeps, ok, result = following()
  count = count + 1
  owners[count] = keeps and devices[name] or false
  if not ok then
    errors[count] = reason_of(result)
  elseif result then
    duplicates = duplicates + 1
  end
end
local seen = {}
for _, device in ipairs(changed) do
  local ok, result = pcall(write_device, device)
  device.failure = not ok and reason_of(result)
  if device.seen then
    seen[#seen + 1], seen[#seen + 2] = format('%.3f', device.seen_at), device.name
  end
end
local listed, result = true, nil
if #seen > 0 then
  listed, result = pcall(call, 'ZADD', key_devices, unpack(seen))
end

local failures, failed = {}, ''
for index = 1, count do
  local failure, device = errors[index], owners[index]
  if device and not failure then
    -- The changed state of the device may not have been written: the record must be repeated.
    failure = device.failure or device.seen and not listed and reason_of(result)
  end
  if failure then
    failed = failed .. ' ' .. (index - 1)
    failures[#failures + 1] = index - 1
    failures[#failures + 1] = failure
  end
end

-- An error in here must not make the caller repeat a batch that was written.
pcall(tidy)
call('SET', marker, number .. failed .. (lost and ' @' .. lost or ''), 'EX', MARKER_TTL)
if #failures > 0 then
  return {duplicates, unpack(failures)}
end
return duplicates
