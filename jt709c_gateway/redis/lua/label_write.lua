-- Writes the labels of devices, and notes which have changed.
--
-- KEYS  1 the set of devices with a label (all other keys share its hash slot)
-- ARGV  1 prefix   2 number of changes that are kept, the newest   3 seconds that they are kept after the last one
--       4… for each device: its id, name, group, plate, note; an empty text for none, and a NUL for a field that
--       stays as it is
-- Returns {1 for a label that has changed, else 0, ...}

local fields = {'name', 'group', 'plate', 'note'}
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local changed = {}
for index = 4, #ARGV, 5 do
  local device = ARGV[index]
  local key = key_label .. device
  local before = redis.call('HMGET', key, unpack(fields))
  local set, differs = false, 0
  for at, field in ipairs(fields) do
    local value = ARGV[index + at]
    if value == '\0' then
      value = before[at] or ''
    end
    set = set or value ~= ''
    if value ~= (before[at] or '') then
      differs = 1
      if value == '' then
        redis.call('HDEL', key, field)
      else
        redis.call('HSET', key, field, value)
      end
    end
  end
  if set then
    redis.call('SADD', key_labels, device)
  else
    -- Also the fields of others.
    redis.call('DEL', key)
    redis.call('SREM', key_labels, device)
  end
  if differs == 1 then
    redis.call('ZADD', key_label_changes, now, device)
    redis.call('EXPIRE', key_label_changes, ARGV[3])
  end
  changed[#changed + 1] = differs
end
redis.call('ZREMRANGEBYRANK', key_label_changes, 0, -1 - ARGV[2])
return changed
