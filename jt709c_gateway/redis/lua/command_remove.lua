-- Claims one command from anywhere in its lock's queue for this gateway, unless a gateway holds it.
--
-- KEYS  1 record of the command   2 commands under way at this gateway
-- ARGV  1 prefix   2 command id   3 this run of the gateway
-- Returns {command JSON, its record} or {false, its record}; the record is a flat array, empty if unknown. {"LATE"} when
-- this gateway counts as dead, or another has its name; nothing is written then.

local id, holder = ARGV[2], ARGV[3]
if not is_alive(holder) then
  return LATE
end
local fields = call('HGETALL', KEYS[1])
local device = value_of(fields, 'device')
local queue = device and key_waiting .. device
local command = queue and entry_of(queue, id)
if not command then
  return {false, fields}
end
check_type(KEYS[2], 'hash')
check_take(KEYS[1], holder)
check_right('HSET', KEYS[2], id, command)
check_right('LREM', queue, 1, command)
take(KEYS[1], holder)
call('HSET', KEYS[2], id, command)
call('LREM', queue, 1, command)
return {command, call('HGETALL', KEYS[1])}
