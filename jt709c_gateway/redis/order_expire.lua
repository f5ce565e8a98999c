-- Ends the orders whose ttl has run out before they were written: record, event, history, reply and queue, each
-- order in one step, and only while it is `queued` or `waiting` and in no gateway's hands.
--
-- KEYS  1 deadlines   2 stream of events (all other keys share their hash slot)
-- ARGV  1 prefix   2 now, epoch seconds   3 orders to look at   4 how many due ones to leave out, the first
--       5 now, as in records   6, 7 lengths of the stream of events and of a history
--       8 longest list of replies   9 seconds to keep it
--       10 fields of the event, MessagePack: {{name, whether its value in the record is text and not JSON}, ...}
--       11 to 14 the event, around its number, its device and its data
-- Returns {due orders looked at, {id of each that has ended, ...}, how many of them could not be ended, why}; those
-- stay where they are.

local call = redis.call
local prefix, count, at = ARGV[1], tonumber(ARGV[3]), ARGV[5]
local fields = cmsgpack.unpack(ARGV[10])
local FURTHER = {'ttl', 'reply_to', 'writing_at'}
local TIMES = {'once', 'twice'}
local find, format = string.find, string.format
local names, heads = {}, {}
for index, one in ipairs(fields) do
  names[index], heads[index] = one[1], '"' .. one[1] .. '":'
end
for _, name in ipairs(FURTHER) do
  names[#names + 1] = name
end

-- Before an order's first write: that a key is of the type that it has to be. Reading it is also what a Cluster
-- refuses while it moves the key to another node.
local function check_type(kind, key)
  local found = call('TYPE', key)['ok']
  if found ~= kind and found ~= 'none' then
    error({err = 'WRONGTYPE ' .. key .. ' is a ' .. found})
  end
end

-- And that it may be written with a command. Rights are given by pattern: one order stands for the others.
local granted = {}

local function check_right(what, ...)
  if not granted[what] then
    if not redis.acl_check_cmd(...) then
      -- The server refuses it, and says in its own words, and in its ACL LOG, what is missing.
      call(...)
    end
    granted[what] = true
  end
end

local function quoted(text)
  return (string.gsub(cjson.encode(text), '\\/', '/'))
end

-- A field's value in an event.
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

-- The record, without what is absent.
local function read(id)
  local record = {}
  for index, value in ipairs(call('HMGET', prefix .. ':command:' .. id, unpack(names))) do
    record[names[index]] = value ~= '' and value or nil
  end
  return record
end

-- The order's own text in the queue of its lock.
local function entry_of(queue, id)
  for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
    if find(entry, id, 1, true) then
      local ok, order = pcall(cjson.decode, entry)
      if ok and type(order) == 'table' and order['id'] == id then
        return entry
      end
    end
  end
end

local function is_in_hand(id)
  for _, gateway in ipairs(call('SMEMBERS', prefix .. ':gateways')) do
    if call('HGET', prefix .. ':commands:underway:' .. gateway, id) then
      return true
    end
  end
  return false
end

local function reason_of(record, attempts)
  local ttl = format('%g', tonumber(record.ttl) or 0)
  if attempts == 0 then
    return 'not sent within ' .. ttl .. ' s'
  end
  return 'not answered within ' .. ttl .. ' s, written ' .. (TIMES[attempts] or attempts .. ' times')
end

local function check_all(id, record, queue, json)
  local key, device = prefix .. ':command:' .. id, record.device
  local history, unsettled = prefix .. ':history:' .. device, prefix .. ':commands:unsettled:' .. device
  check_type('list', queue)
  check_type('stream', KEYS[2])
  check_type('stream', history)
  check_type('hash', unsettled)
  check_right('record', 'HSET', key, 'state', 'expired')
  check_right('queue', 'LREM', queue, 0, id)
  check_right('deadlines', 'ZREM', KEYS[1], id)
  check_right('unsettled', 'HDEL', unsettled, id)
  check_right('events', 'XADD', KEYS[2], '*', 'kind', 'command')
  check_right('history', 'XADD', history, '*', 'kind', 'command')
  check_right('channel', 'PUBLISH', prefix .. ':event:command:' .. device, json)
  if record.reply_to then
    local replies = prefix .. ':reply:' .. record.reply_to
    check_type('list', replies)
    check_right('replies', 'RPUSH', replies, json)
    check_right('replies cut', 'LTRIM', replies, 0, -1)
    check_right('replies kept', 'EXPIRE', replies, 1)
  end
end

local number = 0

local function announce(device, json)
  number = number + 1
  local event = ARGV[11] .. '.' .. number .. ARGV[12] .. device .. ARGV[13] .. json .. ARGV[14]
  call('PUBLISH', prefix .. ':event:command:' .. device, event)
  call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'kind', 'command', 'device', device, 'event', event)
  call('XADD', prefix .. ':history:' .. device, 'MAXLEN', '~', ARGV[7], '*',
    'kind', 'command', 'device', device, 'event', event)
  -- As `rank_trail` of commit.lua does; it has that place already, unless it was let go meanwhile.
  local heard = type(redis.pcall('HGET', prefix .. ':device:' .. device, 'seen')) == 'string'
  redis.pcall('ZADD', prefix .. ':histories', 'GT',
    format('%.3f', (heard and 300000000000 or 0) - call('TIME')[1]), device)
end

local function reply(name, json)
  local replies = prefix .. ':reply:' .. name
  call('RPUSH', replies, json)
  call('LTRIM', replies, -tonumber(ARGV[8]), -1)
  call('EXPIRE', replies, ARGV[9])
end

-- Whether the order has come to its end by this.
local function expire(id)
  local record = read(id)
  local open = record.device and (record.state == 'queued' or record.state == 'waiting')
  local queue = open and prefix .. ':commands:waiting:' .. record.device
  local entry = open and entry_of(queue, id)
  local attempts = tonumber(record.attempts or '0') or 0
  local unwritten = attempts == 0 and not record.writing_at
  if not open or not entry and (not unwritten or is_in_hand(id)) then
    -- It has ended, or is in the hands of a gateway, which ends it.
    call('ZREM', KEYS[1], id)
    return false
  end
  record.state, record.reason, record.ended_at = 'expired', reason_of(record, attempts), at
  local json = data_of(record)
  check_all(id, record, queue, json)
  if entry then
    call('LREM', queue, 0, entry)
  end
  call('ZREM', KEYS[1], id)
  call('HSET', prefix .. ':command:' .. id, 'state', record.state, 'reason', record.reason, 'ended_at', at)
  if attempts > 0 then
    call('HDEL', prefix .. ':commands:unsettled:' .. record.device, id)
  end
  announce(record.device, json)
  if record.reply_to then
    reply(record.reply_to, json)
  end
  return true
end

local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', ARGV[4], count)
local ended, refused, why = {}, 0, false
for _, id in ipairs(due) do
  local ok, result = pcall(expire, id)
  if not ok then
    refused, why = refused + 1, type(result) == 'table' and result.err or tostring(result)
  elseif result then
    ended[#ended + 1] = id
  end
end
return {#due, ended, refused, why}
