-- Whether a lock may be asked now what it is: once in so long, whichever gateway asks.
--
-- KEYS  1 state of the lock
-- ARGV  1 now, epoch seconds   2 seconds from one time to the next
-- Returns {imei, firmware, dialect}, each false when it isn't known, or false when it has been asked already or
-- nothing is known of it.

local seen, asked, imei, firmware, dialect =
  unpack(redis.call('HMGET', KEYS[1], 'seen', 'asked', 'imei', 'firmware', 'dialect'))
local now = tonumber(ARGV[1])
-- The clocks of gateways may differ.
if not seen or (asked and math.abs(now - tonumber(asked)) < tonumber(ARGV[2])) then
  return false
end
redis.call('HSET', KEYS[1], 'asked', ARGV[1])
return {imei, firmware, dialect}
