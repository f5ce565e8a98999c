-- Returns the digests of whole keys: of type, expiry and content.
--
-- KEYS  the keys
-- ARGV  1 length beyond which a list or stream has none   2 "1" for digests of what DUMP returns: that of a trail of 50
--       events takes 40 µs and not 750, but keys of the same content may have different ones
-- Returns for each key "<digest> <epoch ms when it expires or 0>"; "" when there is none, "long <expiry>" when it has
-- no digest.

local longest, of_dump = tonumber(ARGV[1]), ARGV[2] == '1'
local call, sha1hex, sort = redis.call, redis.sha1hex, table.sort

-- Appends values, and those of nested arrays, so that no two contents give the same text.
local function append(parts, value)
  if type(value) == 'table' then
    parts[#parts + 1] = '*' .. #value
    for _, one in ipairs(value) do
      append(parts, one)
    end
  else
    parts[#parts + 1] = #value .. ':' .. value
  end
end

local function pairs_sorted(flat)
  local found = {}
  for at = 1, #flat, 2 do
    found[#found + 1] = #flat[at] .. ':' .. flat[at] .. #flat[at + 1] .. ':' .. flat[at + 1]
  end
  sort(found)
  return found
end

local lengths = {list = 'LLEN', stream = 'XLEN'}
local contents = {
  string = function(key) return call('GET', key) end,
  list = function(key) return call('LLEN', key) <= longest and call('LRANGE', key, 0, -1) end,
  hash = function(key) return pairs_sorted(call('HGETALL', key)) end,
  set = function(key)
    local found = call('SMEMBERS', key)
    sort(found)
    return found
  end,
  zset = function(key) return pairs_sorted(call('ZRANGE', key, 0, -1, 'WITHSCORES')) end,
  stream = function(key) return call('XLEN', key) <= longest and call('XRANGE', key, '-', '+') end,
}

local digests = {}
for _, key in ipairs(KEYS) do
  local kind = call('TYPE', key).ok
  local digest = ''
  if kind ~= 'none' then
    local expires = string.format('%.0f', math.max(call('PEXPIRETIME', key), 0))
    local content = not of_dump and contents[kind](key)
    if of_dump and (not lengths[kind] or call(lengths[kind], key) <= longest) then
      digest = sha1hex(call('DUMP', key)) .. ' ' .. expires
    elseif content then
      local parts = {kind}
      append(parts, content)
      digest = sha1hex(table.concat(parts)) .. ' ' .. expires
    else
      digest = 'long ' .. expires
    end
  end
  digests[#digests + 1] = digest
end
return digests
