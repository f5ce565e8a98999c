-- Takes an order in, once: its record, its place in the lock's queue, and its leaving the intake list.
--
-- KEYS  1 record of the order   2 waiting list of the lock   3 deadlines   4 intake list of this gateway
--       5 session of the lock   6 stream of events   7 history of the lock   8 IMEI -> device
-- ARGV  1 seconds to keep the record   2 the order as JSON, or "" when no lock is to get it
--       3 epoch second at which its ttl ends   4 order id   5 the entry of the intake list
--       6 longest waiting list   7 prefix   8 name of this gateway   9 "1" when it can write to the lock itself
--       10 why there is no room   11 now, as in records   12 device
--       13, 14, 15 events to announce: that it came in, that it waits, that there is no room
--       16, 17 lengths of the stream of events and of the device's history
--       18 how the order named the device, or "" when that doesn't matter   19 the device that this was an IMEI of
--       when it was looked up, or ""   20… field, value, … of the record
-- Returns 1 when it is queued, 2 when it waits because the lock is away, 0 when its id is known, -1 when too
-- many wait for this lock (its record says so), -2 when the entry is in other hands by now, -3 when the name
-- stands for another device by now: nothing is done then.

-- What may fail comes first: a script that stops half-way has done the first half.
local known = redis.call('EXISTS', KEYS[1]) == 1
local waiting = redis.call('LLEN', KEYS[2])
local holder = redis.call('HGET', KEYS[5], 'gateway')
if ARGV[18] ~= '' and (redis.call('HGET', KEYS[8], ARGV[18]) or '') ~= ARGV[19] then
  return -3
end

-- Announced in here, the first steps of an order come before whatever another gateway does with it.
local function announce(json)
  local device = ARGV[12]
  redis.call('PUBLISH', ARGV[7] .. ':event:command:' .. device, json)
  for key, length in pairs({[KEYS[6]] = ARGV[16], [KEYS[7]] = ARGV[17]}) do
    redis.call('XADD', key, 'MAXLEN', '~', length, '*', 'kind', 'command', 'device', device, 'event', json)
  end
end

if redis.call('LREM', KEYS[4], 1, ARGV[5]) == 0 then
  return -2
end
if known then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 20))
redis.call('EXPIRE', KEYS[1], ARGV[1])
-- As `recent_commands` of `OrderStore` does for orders that no script takes in.
local recent, moment = ARGV[7] .. ':commands:recent', redis.call('TIME')
redis.call('ZADD', recent, moment[1] .. '.' .. string.format('%06d', moment[2]), ARGV[4])
redis.call('ZREMRANGEBYRANK', recent, 0, -10001)
announce(ARGV[13])
-- As `rank_trail` of commit.lua does for what comes later.
local heard = redis.call('HGET', ARGV[7] .. ':device:' .. ARGV[12], 'seen')
redis.pcall('ZADD', ARGV[7] .. ':histories', 'GT',
  string.format('%.3f', (heard and 300000000000 or 0) - redis.call('TIME')[1]), ARGV[12])
if ARGV[2] == '' then
  return 1
end
if waiting >= tonumber(ARGV[6]) then
  redis.call('HSET', KEYS[1], 'state', 'failed', 'reason', ARGV[10], 'ended_at', ARGV[11])
  announce(ARGV[15])
  return -1
end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4])
if ARGV[9] == '1' then
  return 1
end
if holder and holder ~= ARGV[8] and redis.call('EXISTS', ARGV[7] .. ':gateway:' .. holder) == 1 then
  local route = ARGV[7] .. ':commands:route:' .. holder
  redis.call('RPUSH', route, ARGV[12])
  redis.call('EXPIRE', route, 60)
  return 1
end
redis.call('HSET', KEYS[1], 'state', 'waiting')
announce(ARGV[14])
return 2
