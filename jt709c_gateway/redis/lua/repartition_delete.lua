-- Deletes keys that were moved; behind repartition_guard.lua.
--
-- KEYS  2… the keys

for index = 2, #KEYS do
  call('UNLINK', KEYS[index])
end
return #KEYS - 1
