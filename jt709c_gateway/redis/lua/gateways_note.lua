-- Adds gateways to the set of those that may have left commands or sessions behind.
--
-- KEYS  1 the set of gateways
-- ARGV  1 prefix   2… names of gateways
-- Returns how many of them are new.

return redis.call('SADD', KEYS[1], unpack(ARGV, 2))
