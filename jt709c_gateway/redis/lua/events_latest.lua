-- Returns the newest events of some kinds, for followers that may miss some.
--
-- KEYS  1 the stream of events
-- ARGV  1 the id behind which to look; empty for only the id of the newest entry  2 entries to look at, at most
--       3 events to return, at most  4… kinds
-- Returns the id of the newest entry (false if there is none), the number of events that were left out (at least 1
-- when there were more entries than could be looked at), and the events with their kinds, newest first.

local after, looked_at, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if after == '' or #newest == 0 then
  return {newest[1] and newest[1][1] or false, 0}
end
local kinds = {}
for index = 4, #ARGV do
  kinds[ARGV[index]] = true
end
local entries = redis.call('XREVRANGE', KEYS[1], '+', '(' .. after, 'COUNT', looked_at)
local left_out = #entries == looked_at and 1 or 0
local found = {newest[1][1], 0}
for _, entry in ipairs(entries) do
  local kind, event
  for at = 1, #entry[2], 2 do
    if entry[2][at] == 'kind' then
      kind = entry[2][at + 1]
    elseif entry[2][at] == 'event' then
      event = entry[2][at + 1]
    end
  end
  if kinds[kind] and event then
    if #found < 2 + 2 * most then
      found[#found + 1] = kind
      found[#found + 1] = event
    else
      left_out = left_out + 1
    end
  end
end
found[2] = left_out
return found
