-- Adopts the commands that a dead run of a gateway has left behind.
--
-- KEYS  1 liveness of its name   2 its intake list   3 its commands under way   4 list of new commands
--       5 our commands under way   6 the set of gateways
-- ARGV  1 prefix   2 its name   3 its liveness JSON if it is known to be dead before that expires, or ""
--       4 this run of the gateway   5 maximum number of commands
-- Returns {{command JSON, its record}, ...}; nil while it lives, {"LATE"} when this gateway itself counts as dead, or
-- another has its name. Under our own name these are the commands of earlier runs.

local name, holder = ARGV[2], ARGV[4]
if not is_alive(holder) then
  return LATE
end
local own = KEYS[3] == KEYS[5]
local said = not own and call('GET', KEYS[1])
if said and said ~= ARGV[3] then
  return false
end
local entries = call('HGETALL', KEYS[3])
check_type(KEYS[2], 'list')
check_type(KEYS[4], 'list')
check_type(KEYS[5], 'hash')
check_right('LMOVE', KEYS[2], KEYS[4], 'RIGHT', 'LEFT')
check_right('HSET', KEYS[5], '', '')
check_right('HDEL', KEYS[3], '')

-- Whether it has left a command behind, and no other run has claimed the command since.
local function is_left(record)
  local of = call('HGET', record, 'holder') or ''
  if of == '' or match(of, '^(.*)/[^/]+$') == name then
    return of ~= holder and (not own or not is_alive(of))
  end
  return not is_alive(of)
end

local left = {}
for i = 1, #entries, 2 do
  local record = key_command .. entries[i]
  check_type(record, 'hash')
  if #left < tonumber(ARGV[5]) and is_left(record) then
    check_take(record, holder)
    left[#left + 1] = {entries[i], entries[i + 1], record}
  end
end

if not own then
  while call('LMOVE', KEYS[2], KEYS[4], 'RIGHT', 'LEFT') do
  end
end
local taken = {}
for _, one in ipairs(left) do
  local id, command, record = unpack(one)
  if call('EXISTS', record) == 1 then
    take(record, holder)
  end
  if not own then
    call('HSET', KEYS[5], id, command)
    call('HDEL', KEYS[3], id)
  end
  taken[#taken + 1] = {command, call('HGETALL', record)}
end
if #left == 0 and not own then
  -- Entries that others hold now are still there. The name is removed one round after its last command, since
  -- an entry may have been on its way to its intake list.
  for i = 1, #entries, 2 do
    call('HDEL', KEYS[3], entries[i])
  end
  call('SREM', KEYS[6], name)
end
return taken
