-- Fifth part of commit.lua: changes of sessions.

-- A session's token is `<gateway>/<run>-<number>`.
local function gateway_of(token)
  return token and match(token, '^(.*)/')
end

-- The set of devices that are online at a gateway, according to the published events.
local function online_at(gateway)
  return key_online_at .. gateway
end

-- Makes a gateway check its session of a device, as command_accept.lua does for commands.
local function tell(gateway, device)
  if call('EXISTS', key_gateway .. gateway) == 1 then
    local route = key_route .. gateway
    call('RPUSH', route, device)
    call('EXPIRE', route, ROUTE_TTL)
  end
end

local function write_session(key, session)
  call('HSET', key, 'token', session[2], unpack(session[4]))
  call('EXPIRE', key, session[3])
end

-- Stores the newest session of a device: messages of older ones are dropped from now on.
local function note_newest(device, token)
  call('HSET', key_device .. device, 'session', token)
  device_of(device).session = token
end

-- Changes of a session, the classes of SessionChange in redis/commit_records.py. Each function takes the device, the
-- key of its session, the token of the stored session or false, and the record's session; it returns whether to
-- publish the record's events, or 'taken over' to publish their other form.
local sessions = {}

-- {"open", token, ttl, fields}: a device has connected or reconnected.
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

-- {"offer", token, ttl, fields, report}: a device seems to have sent datagrams; their sender is not proven.
-- `report` is the fingerprint of the report, or empty: see `is_declined`.
function sessions.offer(device, key, known, session)
  return sessions.open(device, key, known, session)
end

-- {"keep", token, ttl}: the device was heard again.
function sessions.keep(device, key, known, session)
  if known == session[2] then
    call('EXPIRE', key, session[3])
  else
    tell(gateway_of(session[2]), device)
  end
  return true
end

-- {"affirm", token, ttl, fields}: the device is still connected, though Redis may have lost its session, or
-- another gateway may have published that it is offline.
function sessions.affirm(device, key, known, session)
  local gateway = gateway_of(session[2])
  local state = device_of(device)
  know(state)
  local newest = state.session ~= '' and state.session or session[2]
  if known and known ~= session[2] or newest ~= session[2] then
    tell(gateway, device)
    return false
  end
  write_session(key, session)
  note_newest(device, session[2])
  return call('SADD', online_at(gateway), device) == 1
end

-- {"close", token}: the device has disconnected, which is published unless it is online elsewhere, or was published.
function sessions.close(device, key, known, session)
  if known and known ~= session[2] then
    return false
  end
  call('DEL', key)
  return call('SREM', online_at(gateway_of(session[2])), device) == 1 or known == session[2]
end

-- {"lost", gateway, gone, living}: its gateway has died; `living` is the prefix of the tokens of its present run.
function sessions.lost(device, key, known, session)
  local gateway, gone, living = session[2], session[3], session[4]
  if not gone and call('EXISTS', key_gateway .. gateway) == 1
    or known and sub(known, 1, #living) == living
    or call('SREM', online_at(gateway), device) == 0 then
    return false
  end
  if known and gateway_of(known) ~= gateway then
    return false
  end
  call('DEL', key)
  return true
end

local function session_of(device)
  local key = key_session .. device
  return key, call('HGET', key, 'token')
end

local function change_session(device, session)
  local key, known = session_of(device)
  return sessions[session[1]](device, key, known, session)
end

-- Whether an offered session is declined: another living gateway keeps a device that it has over TCP, and over UDP
-- unless the device reports something new.
local function is_declined(device, key, known, session)
  local before, report = gateway_of(known), session[5]
  if not before or before == gateway_of(session[2]) or call('EXISTS', key_gateway .. before) == 0 then
    return false
  end
  return call('HGET', key, 'transport') == 'tcp' or report == '' or is_known(device_of(device), report)
end

-- Checks that all of it can be written: see commit_checks.lua.
local function check_sessions(device, session)
  local key, known = session_of(device)
  local before = gateway_of(known)
  check_change(device, key)
  if session[1] == 'offer' and is_declined(device, key, known, session) then
    error({err = 'DECLINED'})
  end
  if session[1] == 'open' or session[1] == 'offer' then
    -- Written even if the rest can't be: messages of the new connection must not count as messages of the old one.
    note_newest(device, session[2])
  end
  check_gateway(session[1] == 'lost' and session[2] or gateway_of(session[2]))
  if before then
    check_gateway(before)
  end
end
