-- Decides whether a lock may be queried for its identity now: once per interval, by any gateway.
--
-- KEYS  1 state of the lock
-- ARGV  1 now, epoch seconds   2 interval in seconds
-- Returns {imei, firmware, dialect}, each false when unknown, or false when the lock was queried already or is
-- unknown.

local seen, asked, imei, firmware, dialect =
  unpack(redis.call('HMGET', KEYS[1], 'seen', 'asked', 'imei', 'firmware', 'dialect'))
local now = tonumber(ARGV[1])
-- The clocks of gateways may differ.
if not seen or (asked and math.abs(now - tonumber(asked)) < tonumber(ARGV[2])) then
  return false
end
redis.call('HSET', KEYS[1], 'asked', ARGV[1])
return {imei, firmware, dialect}
