-- Ranks of audit trails. A part of several scripts.
--
-- When there are too many trails, the lowest is deleted first, and within a rank the newest one, so that no trail makes
-- room for a new one. Commands for a device that was never heard have rank 0.

local RANK_ALARM, RANK_LOCK, RANK_COMMAND = 1, 2, 3
local RANK = 100000000000

-- Stores the rank of a device's audit trail, which has got an event of this kind at `now`, in epoch seconds. If that
-- fails the trail has no rank, and is kept.
local function rank_history(device, kind, now)
  local rank = kind == 'alarm' and RANK_ALARM or RANK_LOCK
  if kind == 'command' then
    local seen = redis.pcall('HGET', key_device .. device, 'seen')
    rank = type(seen) == 'string' and RANK_COMMAND or 0
  end
  redis.pcall('ZADD', key_histories, 'GT', string.format('%.3f', rank * RANK - now), device)
end
