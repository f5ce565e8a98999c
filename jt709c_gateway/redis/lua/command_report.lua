-- Publishes the state of a command again, unless it has changed since it was read.
--
-- KEYS  1 record of the command   2 stream of events   3 history of the lock
-- ARGV  1 prefix   2 device   3 state   4 event   5, 6 lengths of the stream of events and of the history
-- Returns 1, or 0 when the state has changed.

local channel = key_channel .. 'command:' .. ARGV[2]
if call('HGET', KEYS[1], 'state') ~= ARGV[3] then
  return 0
end
check_type(KEYS[2], 'stream')
check_type(KEYS[3], 'stream')
check_right('PUBLISH', channel, '')
check_right('XADD', KEYS[2], '*', 'kind', 'command')
check_right('XADD', KEYS[3], '*', 'kind', 'command')
call('PUBLISH', channel, ARGV[4])
for key, length in pairs({[KEYS[2]] = ARGV[5], [KEYS[3]] = ARGV[6]}) do
  call('XADD', key, 'MAXLEN', '~', length, '*', 'kind', 'command', 'device', ARGV[2], 'event', ARGV[4])
end
rank_history(ARGV[2], 'command', call('TIME')[1])
return 1
