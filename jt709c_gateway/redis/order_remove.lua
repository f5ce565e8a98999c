-- Takes one order out of the queue of its lock, wherever it stands there, into the hands of this gateway, unless
-- a gateway has it in hand.
--
-- KEYS  1 record of the order   2 deadlines   3 orders under way at this gateway
-- ARGV  1 prefix   2 order id
-- Returns {order JSON, its record} or {false, its record}; the record is a flat array, empty if unknown.

redis.call('ZREM', KEYS[2], ARGV[2])
local fields = redis.call('HGETALL', KEYS[1])
local device = redis.call('HGET', KEYS[1], 'device')
if device then
  local queue = ARGV[1] .. ':commands:waiting:' .. device
  for _, order in ipairs(redis.call('LRANGE', queue, 0, -1)) do
    if cjson.decode(order)['id'] == ARGV[2] then
      redis.call('HSET', KEYS[3], ARGV[2], order)
      redis.call('LREM', queue, 1, order)
      return {order, fields}
    end
  end
end
return {false, fields}
