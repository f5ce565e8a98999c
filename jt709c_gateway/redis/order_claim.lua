-- Takes the next order for a lock out of its queue, into the hands of one gateway.
--
-- KEYS  1 waiting list of the lock   2 orders under way at this gateway   3 state of the lock
--       4 unsettled orders of the lock   5 dynamic password of the lock
-- ARGV  1 prefix   2 "1" to take an order, "0" only to look for unsettled ones
-- Returns {order JSON or nil, its record, serial, {dialect, firmware, wrong passwords}, dynamic password or
-- nil, {record, ...} of the unsettled ones, how many wait}; records are flat arrays of field, value, ...

local function record(id)
  return redis.call('HGETALL', ARGV[1] .. ':command:' .. id)
end

local unsettled = {}
for _, id in ipairs(redis.call('HKEYS', KEYS[4])) do
  local fields = record(id)
  if #fields > 0 then
    unsettled[#unsettled + 1] = fields
  end
end
local order = false
if ARGV[2] == '1' then
  order = redis.call('LPOP', KEYS[1])
end
if not order then
  return {false, {}, 0, {false, false, false}, false, unsettled, redis.call('LLEN', KEYS[1])}
end
local id = cjson.decode(order)['id']
redis.call('HSET', KEYS[2], id, order)
return {
  order,
  record(id),
  redis.call('HINCRBY', KEYS[3], 'order_serial', 1),
  redis.call('HMGET', KEYS[3], 'dialect', 'firmware', 'wrong_passwords'),
  redis.call('GET', KEYS[5]),
  unsettled,
  redis.call('LLEN', KEYS[1]),
}
