-- What the scripts that touch a command have in common. A part of several scripts, behind checks.lua.
--
-- The record of a command names its holder: `holder` is `<gateway>/<run>` of the process that has claimed it, or empty,
-- and `token` grows by one with each claim and adoption. docs/fencing.rst describes the protocol.

local find, match = string.find, string.match
local LATE = {'LATE'}

-- Whether the process that holds a command lives: the liveness of its gateway names this run, not a later one.
local function is_alive(holder)
  local name, run = match(holder or '', '^(.*)/([^/]+)$')
  local said = name and call('GET', key_gateway .. name)
  return said and find(said, '"run":"' .. run .. '"', 1, true) and true or false
end

-- Returns the value of a field in the reply to HGETALL.
local function value_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return false
end

-- Returns the entry of a command in the queue of its lock.
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

-- Assigns a command to the holder; returns the new token.
local function take(record, holder)
  call('HSET', record, 'holder', holder)
  return call('HINCRBY', record, 'token', 1)
end

local function check_take(record, holder)
  check_type(record, 'hash')
  check_right('HSET', record, 'holder', holder)
  check_right('HINCRBY', record, 'token', 1)
end
