-- Gives complete copies their names; behind repartition_guard.lua.
--
-- KEYS  2… for each copy its present name, and the one that it gets

for index = 2, #KEYS, 2 do
  if call('EXISTS', KEYS[index]) == 1 then
    call('RENAME', KEYS[index], KEYS[index + 1])
  end
end
return (#KEYS - 1) / 2
