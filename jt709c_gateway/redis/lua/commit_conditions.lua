-- Fifth part of commit.lua: what has to hold of a command before anything of its record is written.
--
-- The record of a command says whose it is: `holder` is the run of a gateway that has claimed it, or empty, and
-- `token` grows by one with each claim and adoption. docs/fencing.rst has the protocol and what follows from it.

-- States in which a command has ended, and those that evidence may still change.
local ENDED = {
  done = true, confirmed = true, rejected = true, failed = true, unconfirmed = true, timed_out = true,
  uncertain = true, expired = true, cancelled = true, invalid = true,
}
local SETTLED_BY_EVIDENCE = {sent = true, acknowledged = true, uncertain = true, unconfirmed = true}

-- Each is given the condition, an array whose second value is the key of the command's record; it returns whether it
-- holds.
local conditions = {}

-- {"held", key, holder, token, attempts or nil}: it is this claim's still, it hasn't ended, and, where `attempts` is
-- given, it has been written so often and no more.
function conditions.held(condition)
  local known = call('HMGET', condition[2], 'holder', 'token', 'state', 'attempts')
  return known[1] == condition[3] and known[2] == condition[4] and not ENDED[known[3]]
    and (not condition[5] or known[4] == condition[5])
end

-- {"put back", key, holder, token}: the same, and a physical command has not been written.
function conditions.put_back(condition)
  local known = call('HMGET', condition[2], 'physical', 'attempts')
  return conditions.held(condition) and (known[1] == 'false' or (known[2] or '0') == '0')
end

-- {"evidence", key}: bytes of it may be out, and nothing has settled it for good.
function conditions.evidence(condition)
  local known = call('HMGET', condition[2], 'state', 'writing_at')
  return SETTLED_BY_EVIDENCE[known[1]] or known[1] and not ENDED[known[1]] and (known[2] or '') ~= ''
end

-- {"answer", key}: its fate is unknown, and the lock has not been heard to answer it.
function conditions.answer(condition)
  local known = call('HMGET', condition[2], 'state', 'answer')
  return known[1] == 'uncertain' and (known[2] or '') == ''
end

-- {"unknown", key}: there is no record of it.
function conditions.unknown(condition)
  return call('EXISTS', condition[2]) == 0
end

local function check_condition(condition)
  if not conditions[condition[1]](condition) then
    error({err = 'LATE'})
  end
end
