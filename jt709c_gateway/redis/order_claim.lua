-- Takes the next order for a lock out of its queue, into the hands of one gateway.
--
-- KEYS  1 waiting list of the lock   2 orders under way at this gateway   3 state of the lock
--       4 unsettled orders of the lock   5 dynamic password of the lock   6 session of the lock
--       7 fingerprints of the lock's last reports
-- ARGV  1 prefix   2 "1" to take an order, "0" only to look for unsettled ones
--       3 epoch second before which unsettled orders are forgotten
--       4 name of this gateway when the lock has just come to it, "" otherwise   5 device
-- Returns {order JSON or nil, its record, serial, {dialect, firmware, wrong passwords, lock state, clock
-- skew}, dynamic password or nil, {record, ...} of the unsettled ones, how many wait, {{sub-lock, epoch s, lock state}, ...} for
-- those that the orders are for, fingerprints or nil, {id, ...} of those that have come along}; records are flat arrays
-- of field, value, ...

local sublocks = {}

local function record(id)
  local fields = redis.call('HGETALL', ARGV[1] .. ':command:' .. id)
  for i = 1, #fields, 2 do
    if fields[i] == 'peripheral' and fields[i + 1] ~= '' then
      local state = redis.call('HMGET', ARGV[1] .. ':peripheral:' .. fields[i + 1], 'time', 'lock_state')
      if state[1] and state[2] then
        sublocks[#sublocks + 1] = {fields[i + 1], state[1], state[2]}
      end
    end
  end
  return fields
end

-- An order that a lock has said yes to goes where the lock goes, since there its effect will be seen. The gateway
-- that had it in its hands is told, and lets go of it.
local function take_along(id, owner)
  local hands = ARGV[1] .. ':commands:underway:' .. owner
  local order = redis.call('HGET', hands, id)
  if not order or redis.call('HGET', ARGV[1] .. ':command:' .. id, 'state') ~= 'acknowledged' then
    return false
  end
  redis.call('HSET', KEYS[2], id, order)
  redis.call('HDEL', hands, id)
  if redis.call('EXISTS', ARGV[1] .. ':gateway:' .. owner) == 1 then
    redis.call('RPUSH', ARGV[1] .. ':commands:route:' .. owner, ARGV[5])
    redis.call('EXPIRE', ARGV[1] .. ':commands:route:' .. owner, 60)
  end
  return true
end

if ARGV[4] ~= '' then
  -- From now on whoever takes in an order for this lock has to tell us: it may come right behind this look.
  local new = redis.call('EXISTS', KEYS[6]) == 0
  redis.call('HSET', KEYS[6], 'gateway', ARGV[4])
  if new then
    redis.call('EXPIRE', KEYS[6], 60)
  end
end
local unsettled, along = {}, {}
local open = redis.call('HGETALL', KEYS[4])
for i = 1, #open, 2 do
  local fields = record(open[i])
  local written, owner = string.match(open[i + 1], '^(%S+) ?(.*)$')
  if #fields > 0 and tonumber(written) >= tonumber(ARGV[3]) then
    unsettled[#unsettled + 1] = fields
    if ARGV[4] ~= '' and owner ~= ARGV[4] and take_along(open[i], owner) then
      redis.call('HSET', KEYS[4], open[i], written .. ' ' .. ARGV[4])
      along[#along + 1] = open[i]
    end
  else
    redis.call('HDEL', KEYS[4], open[i])
  end
end
local known = redis.call('HMGET', KEYS[3], 'dialect', 'firmware', 'wrong_passwords', 'lock_state',
  'clock_skew_s')
local order = false
if ARGV[2] == '1' then
  order = redis.call('LRANGE', KEYS[1], 0, 0)[1]
end
if not order then
  local recent = redis.call('GET', KEYS[7])
  return {false, {}, 0, known, false, unsettled, redis.call('LLEN', KEYS[1]), sublocks, recent, along}
end
local id = cjson.decode(order)['id']
local serial = redis.call('HINCRBY', KEYS[3], 'order_serial', 1)
redis.call('HSET', KEYS[2], id, order)
redis.call('LPOP', KEYS[1])
return {
  order,
  record(id),
  serial,
  known,
  redis.call('GET', KEYS[5]),
  unsettled,
  redis.call('LLEN', KEYS[1]),
  sublocks,
  redis.call('GET', KEYS[7]),
  along,
}
