-- Moves an entry from the intake list of a gateway to the transfers of its partition, in the form for its target.
--
-- KEYS  1 intake list of this gateway   2 transfers   3 list of new commands
-- ARGV  1 prefix   2 the entry   3 its form in the transfers   4 its form in a list of new commands
--       5 how many transfers there may be
-- Returns 1; 2 when there are too many: the entry is then the last of the new commands, so that it holds up no other; 0
-- when another gateway has adopted the entry; nothing is written then.

local full = call('LLEN', KEYS[2]) >= tonumber(ARGV[5])
local list, form = full and KEYS[3] or KEYS[2], full and ARGV[4] or ARGV[3]
-- Checked before the first write: a script that fails half-way would lose the command.
check_type(list, 'list')
check_right('RPUSH', list, form)
if call('LREM', KEYS[1], 1, ARGV[2]) == 0 then
  return 0
end
call('RPUSH', list, form)
return full and 2 or 1
