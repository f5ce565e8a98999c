-- Ends the commands whose ttl ran out before they were sent, and lost commands: record, event, history, reply and queue
-- in one step per command, and only if no living gateway holds it.
--
-- A command is lost when it has not ended and is neither in its lock's queue nor held by a gateway. No script causes
-- this; deleting keys by hand can.
--
-- KEYS  1 deadlines   2 stream of events (all other keys share their hash slot)   3 recent commands by acceptance time
-- ARGV  1 prefix   2 epoch second: examine commands due by then, or accepted by then
--       3 number of commands to examine   4 number of commands to skip first
--       5 now, as in records   6, 7 lengths of the stream of events and of a history
--       8 maximum length of a list of replies   9 seconds to keep it
--       10 fields of the event, MessagePack: {{name, whether its value in the record is text and not JSON}, ...}
--       11 to 14 the parts of the event around its number, device and data
--       15 "1" to look for lost commands among the recent ones, "0" for expired ones
--       16 how many transfers to other partitions there may be; "0" when there is one partition only
-- Returns {number of examined commands, {id of each ended one, ...}, number of commands that could not be ended, reason,
-- {state of each ended one, ...}}; commands that could not be ended stay where they are.

local count, at = tonumber(ARGV[3]), ARGV[5]
local fields = cmsgpack.unpack(ARGV[10])
local FURTHER = {'ttl', 'reply_to', 'writing_at', 'holder'}
-- Seconds until a command that a gateway holds is examined again.
local LATER = 60
local due_only = ARGV[15] ~= '1'
local most_transfers = tonumber(ARGV[16])
local routed = most_transfers > 0
local TIMES = {'once', 'twice'}
local format = string.format
local names, heads = {}, {}
for index, one in ipairs(fields) do
  names[index], heads[index] = one[1], '"' .. one[1] .. '":'
end
for _, name in ipairs(FURTHER) do
  names[#names + 1] = name
end

-- Rights are given by pattern: one command stands for the others.
local granted = {}

local function check_once(what, ...)
  if not granted[what] then
    check_right(...)
    granted[what] = true
  end
end

local function quoted(text)
  return (string.gsub(cjson.encode(text), '\\/', '/'))
end

-- Returns a field's value in an event.
local function shown(value, is_text)
  if not value then
    return 'null'
  end
  if is_text then
    return find(value, '["/\\%c\127]') and quoted(value) or '"' .. value .. '"'
  end
  return (tonumber(value) or value == 'true' or value == 'false' or pcall(cjson.decode, value)) and value or 'null'
end

local function data_of(record)
  local parts = {}
  for index, one in ipairs(fields) do
    parts[index] = heads[index] .. shown(record[one[1]], one[2])
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- Returns the record without absent fields.
local function read(id)
  local record = {}
  for index, value in ipairs(call('HMGET', key_command .. id, unpack(names))) do
    record[names[index]] = value ~= '' and value or nil
  end
  return record
end

-- Whether a gateway holds the command. A living gateway whose list lacks the command has dropped it; its later writes
-- are refused.
local function is_in_hand(id, holder)
  local name = match(holder or '', '^(.*)/[^/]+$')
  return name and call('HGET', key_under_way .. name, id)
end

-- Returns the final state of a command that can't be executed any more, and the reason.
local function end_of(record, attempts)
  local ttl = format('%g', tonumber(record.ttl) or 0)
  local written = attempts > 0 and ', written ' .. (TIMES[attempts] or attempts .. ' times') or ''
  if not record.writing_at and due_only then
    -- What it has waited for, as `CommandSteps` says it.
    local wait = attempts == 0 and record.state == 'waiting' and record.reason and ': ' .. record.reason or ''
    return 'expired', (attempts == 0 and 'not sent within ' or 'not answered within ') .. ttl .. ' s' .. wait .. written
  end
  local why = 'its entry is in no list any more'
  if not record.writing_at then
    return 'failed', why .. written
  end
  return record.physical == 'false' and 'timed_out' or 'uncertain', why .. written
end

local function check_all(id, record, queue, json)
  local key, device = key_command .. id, record.device
  local history, unsettled = key_history .. device, key_unsettled .. device
  check_type(queue, 'list')
  check_type(KEYS[2], 'stream')
  check_type(history, 'stream')
  check_type(unsettled, 'hash')
  check_once('record', 'HSET', key, 'state', 'expired')
  check_once('queue', 'LREM', queue, 0, id)
  check_once('deadlines', 'ZREM', KEYS[1], id)
  check_once('unsettled', 'HDEL', unsettled, id)
  check_once('events', 'XADD', KEYS[2], '*', 'kind', 'command')
  check_once('history', 'XADD', history, '*', 'kind', 'command')
  check_once('channel', 'PUBLISH', key_channel .. 'command:' .. device, json)
  if record.reply_to and routed then
    check_type(key_transfers, 'list')
    check_once('transfers', 'RPUSH', key_transfers, json)
  elseif record.reply_to then
    local replies = key_reply .. record.reply_to
    check_type(replies, 'list')
    check_once('replies', 'RPUSH', replies, json)
    check_once('replies cut', 'LTRIM', replies, 0, -1)
    check_once('replies kept', 'EXPIRE', replies, 1)
  end
end

local number = 0

local function announce(device, json)
  number = number + 1
  local event = ARGV[11] .. '.' .. number .. ARGV[12] .. device .. ARGV[13] .. json .. ARGV[14]
  call('PUBLISH', key_channel .. 'command:' .. device, event)
  call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'kind', 'command', 'device', device, 'event', event)
  call('XADD', key_history .. device, 'MAXLEN', '~', ARGV[7], '*',
    'kind', 'command', 'device', device, 'event', event)
  -- The trail has that rank already, unless it was deleted meanwhile.
  rank_history(device, 'command', call('TIME')[1])
end

local function reply(name, json)
  if routed then
    -- A gateway brings it to the partition of the list, which may be this one, too (`redis/transfers.py`).
    if call('LLEN', key_transfers) < most_transfers then
      local transfer = '{"at":' .. ARGV[2] .. ',"entry":' .. quoted(json) .. ',"reply_to":' .. quoted(name) .. '}'
      call('RPUSH', key_transfers, transfer)
    end
    return
  end
  local replies = key_reply .. name
  call('RPUSH', replies, json)
  call('LTRIM', replies, -tonumber(ARGV[8]), -1)
  call('EXPIRE', replies, ARGV[9])
end

-- Ends a command and returns its final state; false when it has not ended.
local function finish(id)
  local record = read(id)
  if not record.device or not record.state or ENDED[record.state] then
    if due_only then
      call('ZREM', KEYS[1], id)
    end
    return false
  end
  local queue = key_waiting .. record.device
  local entry = not record.holder and entry_of(queue, id)
  if is_in_hand(id, record.holder) or entry and not due_only then
    if due_only then
      call('ZADD', KEYS[1], ARGV[2] + LATER, id)
    end
    return false
  end
  local attempts = tonumber(record.attempts or '0') or 0
  record.state, record.reason = end_of(record, attempts)
  record.ended_at = at
  local json = data_of(record)
  check_all(id, record, queue, json)
  if entry then
    call('LREM', queue, 0, entry)
  end
  call('ZREM', KEYS[1], id)
  call('HSET', key_command .. id, 'state', record.state, 'reason', record.reason, 'ended_at', at, 'holder', '')
  if attempts > 0 and record.state ~= 'uncertain' then
    call('HDEL', key_unsettled .. record.device, id)
  end
  announce(record.device, json)
  if record.reply_to then
    reply(record.reply_to, json)
  end
  return record.state
end

local looked_at = due_only and KEYS[1] or KEYS[3]
local due = call('ZRANGEBYSCORE', looked_at, '-inf', ARGV[2], 'LIMIT', ARGV[4], count)
local ended, states, refused, why = {}, {}, 0, false
for _, id in ipairs(due) do
  local ok, result = pcall(finish, id)
  if not ok then
    refused, why = refused + 1, type(result) == 'table' and result.err or tostring(result)
  elseif result then
    ended[#ended + 1], states[#states + 1] = id, result
  end
end
return {#due, ended, refused, why, states}
