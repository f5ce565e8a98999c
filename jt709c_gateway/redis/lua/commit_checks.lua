-- Third part of commit.lua: checks that a record can be written, before its first write.

-- Kinds of keys that were checked in this call. Rights are given by pattern: one device's key stands for those of all
-- devices.
local granted = {}

local function check_entry(key)
  check_right('XADD', key, '*', 'f', 'v')
end

-- An event of this kind can be published.
local function check_event(device, kind)
  if not granted[kind] then
    check_type(KEYS[1], 'stream')
    check_entry(KEYS[1])
    check_right('PUBLISH', key_channel .. kind .. ':' .. device, 'v')
    granted[kind] = true
  end
  if IN_HISTORY[kind] then
    local history = key_history .. device
    check_type(history, 'stream')
    if not granted.history then
      check_entry(history)
      granted.history = true
    end
  end
end

-- The state of a device can be written.
local function check_device(device)
  -- This checks its type, too.
  know(device)
  if not granted.device then
    check_right('HSET', key_device .. device.name, 'f', 'v')
    granted.device = true
  end
end

-- Its last seen time can be written.
local function check_state(device)
  check_device(device)
  if not granted.devices then
    check_type(key_devices, 'zset')
    check_right('ZADD', key_devices, 0, 'm')
    granted.devices = true
  end
end

-- The fingerprint of a report can be written; its key has been read.
local function check_report(device)
  if not granted.report then
    local key = key_recent .. device.name
    check_right('SET', key, 'v', 'EX', 1)
    check_right('APPEND', key, 'v')
    granted.report = true
  end
end

-- A position can be added to the track.
local function check_track(device)
  if max_track == 0 or device.track then
    return
  end
  local key = key_track .. device.name
  check_type(key, 'list')
  if not granted.track then
    check_right('RPUSH', key, 'v')
    check_right('LTRIM', key, 0, 1)
    granted.track = true
  end
end

-- A live location can be written: the position, and the alarms that begin or end.
local function check_location(device, alarms)
  check_state(device)
  check_track(device)
  if alarms ~= device.alarms then
    check_event(device.name, 'alarm')
  end
end

-- Returns the ids of commands that wait under a name; false for an invalid entry.
local function ids_of(commands)
  local ids = {}
  for index, command in ipairs(commands) do
    local ok, content = pcall(cjson.decode, command)
    ids[index] = ok and type(content) == 'table' and type(content.id) == 'string' and content.id or false
  end
  return ids
end

-- The commands that wait under a device's IMEI can be moved to its id.
local function check_orders(from, to)
  local commands = call('LRANGE', from, 0, -1)
  if #commands == 0 then
    return
  end
  check_type(to, 'list')
  check_right('RPUSH', to, 'v')
  check_right('EXPIRE', to, 1)
  check_right('DEL', from)
  for _, id in ipairs(ids_of(commands)) do
    if id then
      check_type(key_command .. id, 'hash')
      check_right('HSET', key_command .. id, 'f', 'v')
    end
  end
end

-- The IMEI of a device can be written.
local function check_name(device, imei)
  check_type(key_imei, 'hash')
  check_right('HSET', key_imei, 'f', 'v')
  check_right('HDEL', key_imei, 'f')
  if imei ~= device.name then
    check_orders(key_waiting .. imei, key_waiting .. device.name)
  end
end

-- The state of a sub-lock or sensor can be written.
local function check_peripheral(device, id)
  local key, ours = key_peripheral .. id, key_peripherals .. device.name
  local master = call('HGET', key, 'device')
  if master and master ~= device.name then
    check_type(key_peripherals .. master, 'zset')
  end
  check_type(ours, 'zset')
  check_right('HSET', key, 'f', 'v')
  check_right('DEL', key)
  check_right('ZADD', ours, 0, 'm')
  check_right('ZREM', ours, 'm')
  check_right('ZCARD', ours)
  check_right('ZPOPMIN', ours)
end

-- A device's session can be written; its key has been read.
local function check_change(device, key)
  check_device(device_of(device))
  check_right('HSET', key, 'f', 'v')
  check_right('EXPIRE', key, 1)
  check_right('DEL', key)
end

-- A gateway's set of online devices, and its list of routed devices, can be written.
local function check_gateway(gateway)
  local online, route = key_online_at .. gateway, key_route .. gateway
  check_type(online, 'set')
  check_right('SADD', online, 'm')
  check_right('SREM', online, 'm')
  check_type(route, 'list')
  check_right('RPUSH', route, 'v')
  check_right('EXPIRE', route, 1)
  call('EXISTS', key_gateway .. gateway)
end

local function check_secret(device)
  local key = key_secret .. device.name
  call('EXISTS', key)
  check_right('SET', key, 'v', 'EX', 1)
  check_right('DEL', key)
end

-- The required type of a Redis command's key; other commands accept any type.
local function type_for(command)
  if find(command, '^H') then
    return 'hash'
  elseif find(command, '^Z') then
    return 'zset'
  elseif find(command, '^X') then
    return 'stream'
  elseif command == 'SADD' or command == 'SREM' then
    return 'set'
  elseif find(command, '^[LR]') then
    return 'list'
  end
end

local function check_commands(commands)
  for _, command in ipairs(commands) do
    local kind = type_for(command[1])
    if kind then
      check_type(command[2], kind)
    else
      call('EXISTS', command[2])
    end
    check_right(unpack(command))
  end
end
