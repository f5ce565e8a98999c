-- First part of the scripts that touch a command: what they check before they write anything.
--
-- The record of a command says whose it is: `holder` is `<gateway>/<run>` of the process that has claimed it, or empty,
-- and `token` grows by one with each claim and adoption. docs/fencing.rst has the protocol.

local call, find, match = redis.call, string.find, string.match
local LATE = {'LATE'}

-- That a key is of the type that it has to be, or absent. Reading it is also what a Cluster refuses while it moves
-- the key to another node.
local function check_type(kind, key)
  local found = call('TYPE', key)['ok']
  if found ~= kind and found ~= 'none' then
    error({err = 'WRONGTYPE ' .. key .. ' is a ' .. found})
  end
end

-- That a command may be used on a key: what it says beside doesn't matter, unless it is refused.
local function check_right(...)
  if not redis.acl_check_cmd(...) then
    -- The server says in its own words, and in its ACL LOG, what is missing.
    call(...)
  end
end

-- Whether the process that holds a command lives: the liveness of its gateway names its run, and not a later one.
local function is_alive(prefix, holder)
  local name, run = match(holder or '', '^(.*)/([^/]+)$')
  local said = name and call('GET', prefix .. ':gateway:' .. name)
  return said and find(said, '"run":"' .. run .. '"', 1, true) and true or false
end

local function record_of(prefix, id)
  return prefix .. ':command:' .. id
end

-- The value of a field in what HGETALL gave.
local function value_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return false
end

-- A command's own text in the queue of its lock.
local function entry_of(queue, id)
  for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
    if find(entry, id, 1, true) then
      local ok, command = pcall(cjson.decode, entry)
      if ok and type(command) == 'table' and command['id'] == id then
        return entry
      end
    end
  end
  return false
end

-- Makes a command the holder's; the token of that.
local function take(record, holder)
  call('HSET', record, 'holder', holder)
  return call('HINCRBY', record, 'token', 1)
end

local function check_take(record, holder)
  check_type('hash', record)
  check_right('HSET', record, 'holder', holder)
  check_right('HINCRBY', record, 'token', 1)
end
