-- Renews a gateway's liveness, unless a later process has its name.
--
-- KEYS  1 its liveness   2 the set of gateways   3 the number of the last run
-- ARGV  1 prefix   2 liveness, JSON   3 its lifetime in milliseconds   4 name of the gateway   5 its run,
--       `<number>-<boot>`
-- Returns 1, or 0 when a later run has the name: nothing is written then.

local call, match = redis.call, string.match

-- Redis may have lost its data including the numbers: of two runs with the same number either may be the later one,
-- but both must decide alike.
local function is_later(run, other)
  local number, of_other = tonumber(match(run, '^%d+') or '0'), tonumber(match(other, '^%d+') or '0')
  if number ~= of_other then
    return number > of_other
  end
  return run > other
end

local said = call('GET', KEYS[1])
local holder = said and match(said, '"run":"([^"]*)"')
if holder and is_later(holder, ARGV[5]) then
  return 0
end
local number, last = tonumber(match(ARGV[5], '^%d+')), tonumber(call('GET', KEYS[3]) or '0') or 0
call('SADD', KEYS[2], ARGV[4])
if last < number then
  call('SET', KEYS[3], string.format('%.0f', number))
end
call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
