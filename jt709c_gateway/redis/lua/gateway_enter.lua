-- Numbers the runs of gateways: each process calls it once, and a later one gets a higher number.
--
-- KEYS  1 the number of the last run
-- ARGV  1 prefix
-- Returns the number of this one.

local number = (tonumber(redis.call('GET', KEYS[1]) or '0') or 0) + 1
redis.call('SET', KEYS[1], string.format('%.0f', number))
return number
