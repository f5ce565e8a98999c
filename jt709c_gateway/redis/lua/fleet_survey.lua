-- Counts what /metrics says of the whole fleet; changes nothing.
--
-- KEYS  1 devices by last seen   2 the list all commands come in by   3 deadlines   4 the set of gateways
--       5 what was let go
-- ARGV  1 prefix   2 of so many open commands at most, those first whose ttl ends first, the oldest is sought
--       3... epoch seconds: how many devices were seen since then
-- Returns {devices, {seen since ARGV[3], ...}, commands not taken in yet, open commands, those of them that are in a
-- gateway's hands, when the oldest came in that no gateway has in hand, as in its record, or nil,
-- devices and audit trails that were let go, each text or nil}

local seen = {}
for i = 3, #ARGV do
  seen[#seen + 1] = redis.call('ZCOUNT', KEYS[1], ARGV[i], '+inf')
end
local under_way = 0
for _, gateway in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  under_way = under_way + redis.call('HLEN', ARGV[1] .. ':commands:underway:' .. gateway)
end
local oldest = false
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '+inf', 'LIMIT', 0, ARGV[2])) do
  local state, created = unpack(redis.call('HMGET', ARGV[1] .. ':command:' .. id, 'state', 'created_at'))
  -- Times are ISO 8601 of one length: the order of the texts is theirs.
  if (state == 'queued' or state == 'waiting') and created and (not oldest or created < oldest) then
    oldest = created
  end
end
return {
  redis.call('ZCARD', KEYS[1]),
  seen,
  redis.call('LLEN', KEYS[2]),
  redis.call('ZCARD', KEYS[3]),
  under_way,
  oldest,
  redis.call('HGET', KEYS[5], 'devices'),
  redis.call('HGET', KEYS[5], 'histories'),
}
