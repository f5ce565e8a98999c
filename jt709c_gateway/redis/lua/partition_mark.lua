-- Marks a partition as one of several, or a store as undivided, unless its keys are divided in another way.
--
-- KEYS  1 marker of these keys   2 key that is written if it is absent
-- ARGV  1 its value   2 value of other keys which says the same as our marker: the keys were moved to these
--       3… keys that only a store has that is divided in another way; they may be on another node
-- Returns the marker, or what the first of those keys has, as {place, value}: place 0 is the marker, others count from
-- 1. Nil when there is none of them: the key was written then.

local marker = redis.call('GET', KEYS[1])
if marker then
  return {0, marker}
end
for index = 3, #ARGV do
  -- An error means that the key is on another node, or that our user may not read it.
  local other = redis.pcall('GET', ARGV[index])
  if type(other) == 'string' and other ~= ARGV[2] then
    return {index - 2, other}
  end
end
redis.call('SET', KEYS[2], ARGV[1], 'NX')
return false
