-- Writes whole keys that were read elsewhere; behind repartition_guard.lua.
--
-- KEYS  2… the keys
-- ARGV  3 "1" to replace keys that exist   4… for each key its DUMP, and epoch ms when it expires or 0
-- Returns for each key 1, or 0 when it exists and stays as it is.

local replace = ARGV[3] == '1'
local written = {}
for index = 2, #KEYS do
  local key, at = KEYS[index], 2 * index
  if not replace and call('EXISTS', key) == 1 then
    written[#written + 1] = 0
  else
    call('RESTORE', key, ARGV[at + 1], ARGV[at], 'ABSTTL', 'REPLACE')
    written[#written + 1] = 1
  end
end
return written
