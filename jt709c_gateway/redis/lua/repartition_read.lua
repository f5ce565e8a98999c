-- Reads whole keys, as many as one reply may have.
--
-- KEYS  the keys
-- ARGV  1 bytes after which no further key is read   2 length beyond which a list or stream is not read
-- Returns {how many keys were read, then for each: its DUMP or nil, epoch ms when it expires or 0, its field `device` or
-- nil, its type if it is too long or nil}

local most, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local found, size, count = {0}, 0, 0
local lengths = {list = 'LLEN', stream = 'XLEN'}
for index, key in ipairs(KEYS) do
  if size > most then
    break
  end
  local kind = redis.call('TYPE', key).ok
  local measure = lengths[kind]
  local is_long = measure ~= nil and redis.call(measure, key) > longest
  local dump = not is_long and redis.call('DUMP', key)
  size = size + (dump and #dump or 0)
  found[#found + 1] = dump
  found[#found + 1] = math.max(redis.call('PEXPIRETIME', key), 0)
  found[#found + 1] = kind == 'hash' and redis.call('HGET', key, 'device')
  found[#found + 1] = is_long and kind
  count = index
end
found[1] = count
return found
