-- Returns the state of some devices in one packed reply, which costs the gateway a twentieth of single reads.
--
-- KEYS  1 the sorted set of devices (all other keys share its hash slot)
-- ARGV  1 prefix   2… devices
-- Returns MessagePack: for each device an array of the fields named below, those of its hash, then those of its
-- session and of its label, as in device_summary.py; false for an absent field.

local found = {}
for index = 2, #ARGV do
  local device = redis.call('HMGET', key_device .. ARGV[index],
    'imei', 'dialect', 'firmware', 'seen', 'lock_state', 'battery_percent', 'alarms', 'location', 'place')
  local session = redis.call('HMGET', key_session .. ARGV[index],
    'gateway', 'transport', 'peer', 'since')
  local label = redis.call('HMGET', key_label .. ARGV[index], 'name', 'group', 'plate', 'note')
  for at, value in ipairs(session) do
    device[9 + at] = value
  end
  for at, value in ipairs(label) do
    device[13 + at] = value
  end
  found[index - 1] = device
end
return cmsgpack.pack(found)
