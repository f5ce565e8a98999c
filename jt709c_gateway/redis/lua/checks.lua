-- Checks that a script makes before its first write, since writes before a refusal are not undone. A part of several
-- scripts.
--
-- There are three obstacles: a key of the wrong type, a missing right, and a Cluster that is moving the key to another
-- node, which refuses even reading the key.

local call = redis.call
-- Keys that were checked in this call.
local sound = {}

-- Checks that a key is of this type, or absent.
local function check_type(key, kind)
  if not sound[key] then
    local found = call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error({err = 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', and no ' .. kind})
    end
    sound[key] = true
  end
end

-- Checks that a Redis command may be used on a key; its reply doesn't matter unless it is a refusal.
local function check_right(...)
  if not redis.acl_check_cmd(...) then
    -- The server's error, and its ACL LOG, name the missing right.
    call(...)
  end
end
