-- Appends an entry that comes from another partition to a list of this one.
--
-- KEYS  1 list of new commands, or of outcomes
-- ARGV  1 prefix   2 the entry   3 maximum length of a list of outcomes, "0" for one of commands   4 seconds to keep it

local call = redis.call
call('RPUSH', KEYS[1], ARGV[2])
if ARGV[3] ~= '0' then
  call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
  call('EXPIRE', KEYS[1], ARGV[4])
end
return 1
