-- Refuses a process that was suspended while another one went on with the move. A part of several scripts.
--
-- KEYS[1] is the record of the move in this partition; ARGV[1] the id of the move, ARGV[2] the phase of our process.

local call = redis.call
local known = call('HMGET', KEYS[1], 'id', 'phase')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then
  error({err = 'STALE another process goes on with the move'})
end
