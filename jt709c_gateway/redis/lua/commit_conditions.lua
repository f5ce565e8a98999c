-- Sixth part of commit.lua: conditions on a command, checked before its record is written.
--
-- The record of a command names its holder: `holder` is the run of a gateway that has claimed it, or empty, and
-- `token` grows by one with each claim and adoption. docs/fencing.rst describes the protocol.

-- States of a command that evidence may still change; the final ones are in command_states.lua.
local SETTLED_BY_EVIDENCE = {sent = true, acknowledged = true, uncertain = true, unconfirmed = true}

-- The classes of Condition in redis/commit_records.py. Each function takes the condition, whose second value is the key
-- of the command's record, and returns whether it holds.
local conditions = {}

-- {"held", key, holder, token, attempts or nil}: this claim still holds the command, the command hasn't ended, and, if
-- `attempts` is given, it was sent exactly so often.
function conditions.held(condition)
  local known = call('HMGET', condition[2], 'holder', 'token', 'state', 'attempts')
  return known[1] == condition[3] and known[2] == condition[4] and not ENDED[known[3]]
    and (not condition[5] or known[4] == condition[5])
end

-- {"put_back", key, holder, token}: the same, and a physical command was not sent.
function conditions.put_back(condition)
  local known = call('HMGET', condition[2], 'physical', 'attempts')
  return conditions.held(condition) and (known[1] == 'false' or (known[2] or '0') == '0')
end

-- {"evidence", key, report or nil}: its bytes may have been sent, its outcome is not final, and the report that shows
-- its effect is stored. A report that is not stored comes again, and would be evidence for another command then.
function conditions.evidence(condition, device)
  if condition[3] and not is_known(device, condition[3]) then
    return false
  end
  local known = call('HMGET', condition[2], 'state', 'writing_at')
  return SETTLED_BY_EVIDENCE[known[1]] or known[1] and not ENDED[known[1]] and (known[2] or '') ~= ''
end

-- {"answer", key}: its outcome is unknown, and the lock has not answered it.
function conditions.answer(condition)
  local known = call('HMGET', condition[2], 'state', 'answer')
  return known[1] == 'uncertain' and (known[2] or '') == ''
end

-- {"unknown", key}: it has no record.
function conditions.unknown(condition)
  return call('EXISTS', condition[2]) == 0
end

local function check_condition(condition, device)
  if not conditions[condition[1]](condition, device) then
    error({err = 'LATE'})
  end
end
