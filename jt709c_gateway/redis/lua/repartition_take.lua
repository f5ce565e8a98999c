-- Takes entries of another partition's list, each once; behind repartition_guard.lua.
--
-- KEYS  2 how many entries of that list were taken or passed by   3… for each entry the list that it goes to
-- ARGV  3 maximum length of a list of outcomes   4 seconds to keep it
--       5… for each entry its place in that list, from 0; the entry; "1" when it is an outcome, "0" otherwise

local taken = tonumber(call('GET', KEYS[2]) or '0')
for index = 3, #KEYS do
  local at = 3 * index - 4
  local place = tonumber(ARGV[at])
  if place >= taken then
    call('RPUSH', KEYS[index], ARGV[at + 1])
    if ARGV[at + 2] == '1' then
      call('LTRIM', KEYS[index], -tonumber(ARGV[3]), -1)
      call('EXPIRE', KEYS[index], ARGV[4])
    end
    taken = place + 1
  end
end
call('SET', KEYS[2], string.format('%.0f', taken))
return taken
