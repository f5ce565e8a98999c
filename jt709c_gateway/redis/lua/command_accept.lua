-- Accepts a command once: writes its record, queues it for its lock, and removes it from the intake list.
--
-- KEYS  1 record of the command   2 waiting list of the lock   3 deadlines   4 intake list of this gateway
--       5 session of the lock   6 stream of events   7 history of the lock   8 IMEI -> device
-- ARGV  1 prefix   2 seconds to keep the record   3 the command as JSON, or "" when it must not reach a lock
--       4 epoch second at which its ttl ends   5 command id   6 the entry of the intake list
--       7 maximum length of the waiting list   8 name of this gateway   9 "1" when it can send to the lock
--       10 reason when the waiting list is full   11 now, as in records   12 device
--       13, 14, 15 events to publish: queued, waiting, failed because the list is full
--       16, 17 lengths of the stream of events and of the device's history
--       18 name of the device in the command, or "" when that doesn't matter   19 device that was found for this
--       name as an IMEI, or ""   20… field, value, … of the record
-- Returns 1 when it is queued, 2 when it waits because the lock is offline, 0 when its id is known, -1 when too
-- many wait for this lock (its record says so), -2 when another gateway has adopted the entry, -3 when the name
-- now stands for another device; nothing is written then.

local id, device = ARGV[5], ARGV[12]
local known = call('EXISTS', KEYS[1]) == 1
local waiting = call('LLEN', KEYS[2])
local owner = call('HGET', KEYS[5], 'gateway')
if ARGV[18] ~= '' and (call('HGET', KEYS[8], ARGV[18]) or '') ~= ARGV[19] then
  return -3
end
-- Every write is checked before the first one: a script that fails half-way would lose the command.
local channel = key_channel .. 'command:' .. device
local route = owner and key_route .. owner
check_type(KEYS[1], 'hash')
check_type(KEYS[4], 'list')
check_type(KEYS[6], 'stream')
check_type(KEYS[7], 'stream')
check_type(KEYS[3], 'zset')
check_type(key_recent_commands, 'zset')
check_right('LREM', KEYS[4], 1, id)
check_right('HSET', KEYS[1], 'state', '')
check_right('EXPIRE', KEYS[1], 1)
check_right('ZADD', key_recent_commands, 0, id)
check_right('ZREMRANGEBYRANK', key_recent_commands, 0, 0)
check_right('PUBLISH', channel, '')
check_right('XADD', KEYS[6], '*', 'kind', 'command')
check_right('XADD', KEYS[7], '*', 'kind', 'command')
if ARGV[3] ~= '' then
  check_right('RPUSH', KEYS[2], id)
  check_right('EXPIRE', KEYS[2], 1)
  check_right('ZADD', KEYS[3], 0, id)
  if route then
    check_type(route, 'list')
    check_right('RPUSH', route, device)
    check_right('EXPIRE', route, 60)
  end
end

-- Published in here, the first events of a command precede those of any other gateway.
local function announce(json)
  call('PUBLISH', channel, json)
  for key, length in pairs({[KEYS[6]] = ARGV[16], [KEYS[7]] = ARGV[17]}) do
    call('XADD', key, 'MAXLEN', '~', length, '*', 'kind', 'command', 'device', device, 'event', json)
  end
end

if call('LREM', KEYS[4], 1, ARGV[6]) == 0 then
  return -2
end
if known then
  return 0
end
call('HSET', KEYS[1], 'holder', '', 'token', '0', unpack(ARGV, 20))
call('EXPIRE', KEYS[1], ARGV[2])
-- As `recent_writes` of `CommandStore` does for commands that no script accepts.
local moment = call('TIME')
call('ZADD', key_recent_commands, moment[1] .. '.' .. string.format('%06d', moment[2]), id)
call('ZREMRANGEBYRANK', key_recent_commands, 0, -10001)
announce(ARGV[13])
rank_history(device, 'command', moment[1])
if ARGV[3] == '' then
  return 1
end
if waiting >= tonumber(ARGV[7]) then
  call('HSET', KEYS[1], 'state', 'failed', 'reason', ARGV[10], 'ended_at', ARGV[11])
  announce(ARGV[15])
  return -1
end
call('RPUSH', KEYS[2], ARGV[3])
call('EXPIRE', KEYS[2], ARGV[2])
call('ZADD', KEYS[3], ARGV[4], id)
if ARGV[9] == '1' then
  return 1
end
if owner and owner ~= ARGV[8] and call('EXISTS', key_gateway .. owner) == 1 then
  call('RPUSH', route, device)
  call('EXPIRE', route, 60)
  return 1
end
call('HSET', KEYS[1], 'state', 'waiting')
announce(ARGV[14])
return 2
