-- Notes the device of another partition that has reported an IMEI of this one.
--
-- KEYS  1 IMEI -> device
-- ARGV  1 prefix   2 IMEI   3 device   4 how many IMEIs are kept
-- Returns 1 when that has changed something, else 0.

local call = redis.call
-- How often it is tried to find an IMEI to forget.
local ATTEMPTS = 20

if call('HGET', KEYS[1], ARGV[2]) == ARGV[3] then
  return 0
end
call('HSET', KEYS[1], ARGV[2], ARGV[3])
-- Made-up devices may report any number of IMEIs. That of a device in this partition is forgotten with the device.
for _ = 1, ATTEMPTS do
  if call('HLEN', KEYS[1]) <= tonumber(ARGV[4]) then
    break
  end
  local other = call('HRANDFIELD', KEYS[1])
  if other ~= ARGV[2] and call('EXISTS', key_device .. call('HGET', KEYS[1], other)) == 0 then
    call('HDEL', KEYS[1], other)
  end
end
return 1
