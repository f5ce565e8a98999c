-- Takes over what a gateway that is gone has left behind.
--
-- KEYS  1 its liveness   2 its intake list   3 its orders under way   4 the list all orders come in by
--       5 our orders under way   6 the set of gateways
-- ARGV  1 prefix   2 its name   3 "1" when it is known to be gone, whatever its liveness says
-- Returns {{order JSON, its record}, ...}, at most a hundred at a time but for our own of an earlier run, which
-- stay where they are; nil while it lives.

if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
while redis.call('LMOVE', KEYS[2], KEYS[4], 'RIGHT', 'LEFT') do
end
local taken = {}
local entries = redis.call('HGETALL', KEYS[3])
local own = KEYS[3] == KEYS[5]
local count = own and #entries or math.min(#entries, 200)
for i = 1, count, 2 do
  if not own then
    redis.call('HSET', KEYS[5], entries[i], entries[i + 1])
    redis.call('HDEL', KEYS[3], entries[i])
  end
  taken[#taken + 1] = {entries[i + 1], redis.call('HGETALL', ARGV[1] .. ':command:' .. entries[i])}
end
if count == #entries and not own then
  redis.call('SREM', KEYS[6], ARGV[2])
end
return taken
