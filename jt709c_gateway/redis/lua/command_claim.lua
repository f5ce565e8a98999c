-- Claims the next command in a lock's queue for one gateway.
--
-- KEYS  1 waiting list of the lock   2 commands under way at this gateway   3 state of the lock
--       4 unsettled commands of the lock   5 dynamic password of the lock   6 fingerprints of the lock's last reports
--       7 session of the lock
-- ARGV  1 prefix   2 "1" to claim a command, "0" only to read unsettled ones
--       3 epoch second before which unsettled commands are dropped
--       4 "1" when the lock has just connected to this gateway, "0" otherwise   5 device   6 this run of the gateway
--       7 token of the lock's session here   8 "1" when that is still on its way to Redis, "0" otherwise
--       9… ids of commands to pass over: they stay where they are in the waiting list
-- Returns {command JSON or nil, its record, serial, {dialect, firmware, wrong passwords, lock state, clock
-- skew}, dynamic password or nil, {record, ...} of the unsettled ones, how many wait, {{sub-lock, epoch s, state}, ...} for
-- the sub-locks of the commands, fingerprints or nil, {id, ...} of commands that moved with the lock}; records are flat
-- arrays of field, value, ... Returns {"LATE"} when this gateway counts as dead, or another has its name; {"MOVED"} when
-- the lock has a newer session; nothing is written then.

local device, holder = ARGV[5], ARGV[6]
if not is_alive(holder) then
  return LATE
end
local newest = call('HGET', KEYS[3], 'session')
local opening = ARGV[8] == '1' and newest ~= ARGV[7]
if newest and newest ~= ARGV[7] and not opening then
  return {'MOVED'}
end

local sublocks = {}

local function read(id)
  local fields = call('HGETALL', key_command .. id)
  local peripheral = value_of(fields, 'peripheral')
  if peripheral and peripheral ~= '' then
    local state = call('HMGET', key_peripheral .. peripheral, 'time', 'lock_state')
    if state[1] and state[2] then
      sublocks[#sublocks + 1] = {peripheral, state[1], state[2]}
    end
  end
  return fields
end

-- Returns the first entry of the waiting list that is not passed over, and its command's id or ''.
local function next_entry()
  local passed_over = {}
  for i = 9, #ARGV do
    passed_over[ARGV[i]] = true
  end
  for _, entry in ipairs(call('LRANGE', KEYS[1], 0, #ARGV > 8 and -1 or 0)) do
    local ok, command = pcall(cjson.decode, entry)
    local id = ok and type(command) == 'table' and type(command['id']) == 'string' and command['id'] or ''
    if not passed_over[id] then
      return entry, id
    end
  end
  return false, ''
end

-- Everything is read, and every write checked, before the first write.
local forgotten, moving, ids, unsettled, along = {}, {}, {}, {}, {}
local open = call('HGETALL', KEYS[4])
for i = 1, #open, 2 do
  local id, fields = open[i], read(open[i])
  local written = tonumber(match(open[i + 1], '^%S+')) or 0
  if #fields == 0 or written < tonumber(ARGV[3]) then
    forgotten[#forgotten + 1] = id
  else
    ids[#ids + 1], unsettled[#unsettled + 1] = id, fields
    local of = value_of(fields, 'holder') or ''
    local hands = key_under_way .. (match(of, '^(.*)/[^/]+$') or '')
    -- A command that a lock has acknowledged moves with the lock, since its effect will be reported there.
    local command = ARGV[4] == '1' and of ~= holder and value_of(fields, 'state') == 'acknowledged'
      and call('HGET', hands, id)
    if command then
      check_take(key_command .. id, holder)
      moving[#moving + 1] = {id, command, hands, of, open[i + 1], #ids}
    end
  end
end
local known = call('HMGET', KEYS[3], 'dialect', 'firmware', 'wrong_passwords', 'lock_state', 'clock_skew_s')
local waiting, recent, secret = call('LLEN', KEYS[1]), call('GET', KEYS[6]), call('GET', KEYS[5])
local command, id = false, ''
if ARGV[2] == '1' then
  command, id = next_entry()
end
local fields = command and read(id) or {}
check_type(KEYS[2], 'hash')
check_right('HSET', KEYS[2], id, command or '')
check_right('HDEL', KEYS[4], id)
check_type(KEYS[7], 'hash')
check_right('HSET', KEYS[7], 'gateway', '')
check_right('EXPIRE', KEYS[7], 60)
if command then
  check_right('HINCRBY', KEYS[3], 'order_serial', 1)
  check_right('LPOP', KEYS[1])
  check_right('LREM', KEYS[1], 1, command)
  if id ~= '' then
    check_take(key_command .. id, holder)
  end
end

if opening then
  -- From now on this session is the lock's newest, as in commit_sessions.lua, and a gateway that accepts a command
  -- must notify us: a command may follow right after this claim.
  call('HSET', KEYS[3], 'session', ARGV[7])
  local new = call('EXISTS', KEYS[7]) == 0
  call('HSET', KEYS[7], 'gateway', match(holder, '^(.*)/[^/]+$'))
  if new then
    call('EXPIRE', KEYS[7], 60)
  end
end
for _, one in ipairs(forgotten) do
  call('HDEL', KEYS[4], one)
end
-- The gateway that held it is notified and drops it.
for _, one in ipairs(moving) do
  local moved, text, hands, of, since, index = unpack(one)
  take(key_command .. moved, holder)
  -- An earlier run of our own name held it in this very list.
  if hands ~= KEYS[2] then
    call('HSET', KEYS[2], moved, text)
    call('HDEL', hands, moved)
  end
  call('HSET', KEYS[4], moved, match(since, '^%S+') .. ' ' .. match(holder, '^(.*)/[^/]+$'))
  unsettled[index] = call('HGETALL', key_command .. moved)
  along[#along + 1] = moved
  if is_alive(of) then
    local route = key_route .. match(of, '^(.*)/[^/]+$')
    call('RPUSH', route, device)
    call('EXPIRE', route, 60)
  end
end
if not command then
  return {false, {}, 0, known, false, unsettled, waiting, sublocks, recent, along}
end
local serial = call('HINCRBY', KEYS[3], 'order_serial', 1)
if id ~= '' then
  take(key_command .. id, holder)
  call('HSET', KEYS[2], id, command)
  fields = call('HGETALL', key_command .. id)
end
-- An entry without an id is no command: it is only reported.
if #ARGV > 8 then
  call('LREM', KEYS[1], 1, command)
else
  call('LPOP', KEYS[1])
end
return {command, fields, serial, known, secret, unsettled, waiting - 1, sublocks, recent, along}
