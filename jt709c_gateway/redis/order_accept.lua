-- Takes an order in, once: its record, its place in the lock's queue, and its leaving the intake list.
--
-- KEYS  1 record of the order   2 waiting list of the lock   3 deadlines   4 intake list of this gateway
-- ARGV  1 seconds to keep the record   2 the order as JSON, or "" when no lock is to get it
--       3 epoch second at which its ttl ends   4 order id   5 the entry of the intake list
--       6 longest waiting list   7… field, value, … of the record
-- Returns 1 when it was taken in, 0 when its id is known, -1 when too many wait for this lock.

redis.call('LREM', KEYS[4], 1, ARGV[5])
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local full = ARGV[2] ~= '' and redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[6])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('EXPIRE', KEYS[1], ARGV[1])
if full then
  return -1
end
if ARGV[2] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4])
end
return 1
