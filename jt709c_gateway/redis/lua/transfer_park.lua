-- Moves an entry from the intake list of a gateway to the transfers of its partition, in the form for its target.
--
-- KEYS  1 intake list of this gateway   2 transfers
-- ARGV  1 the entry   2 its form in the transfers
-- Returns 1, or 0 when another gateway has adopted the entry; nothing is written then.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
