-- Removes the first entries of a list when others have taken them; behind repartition_guard.lua.
--
-- KEYS  2 the list   3 how many entries were removed
-- ARGV  3 how many were removed before   4 how many are removed now
-- Returns how many were removed in all.

local before = call('GET', KEYS[3]) or '0'
if before == ARGV[3] then
  call('LTRIM', KEYS[2], ARGV[4], -1)
  call('SET', KEYS[3], string.format('%.0f', before + ARGV[4]))
end
return call('GET', KEYS[3])
