-- Counts the fleet for /metrics; changes nothing.
--
-- KEYS  1 devices by last seen   2 list of new commands   3 deadlines   4 set of gateways   5 counts of deletions
-- ARGV  1 prefix   2 number of open commands, by the end of their ttl, among which the oldest is searched
--       3... epoch seconds: count the devices seen since then
-- Returns {devices, {seen since ARGV[3], ...}, commands not accepted yet, open commands, number of them held by a
-- gateway, acceptance time of the oldest command that no gateway holds, as in its record, or nil,
-- numbers of deleted devices and audit trails, each text or nil}

local seen = {}
for i = 3, #ARGV do
  seen[#seen + 1] = redis.call('ZCOUNT', KEYS[1], ARGV[i], '+inf')
end
local under_way = 0
for _, gateway in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  under_way = under_way + redis.call('HLEN', key_under_way .. gateway)
end
local oldest = false
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '+inf', 'LIMIT', 0, ARGV[2])) do
  local state, created = unpack(redis.call('HMGET', key_command .. id, 'state', 'created_at'))
  -- Times are ISO 8601 of one length: the texts sort like the times.
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
