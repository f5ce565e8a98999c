-- Returns the commands that a gateway holds.
--
-- KEYS  1 commands under way at this gateway
-- ARGV  1 prefix
-- Returns {{id, command JSON, holder, token}, ...}.

local entries, found = call('HGETALL', KEYS[1]), {}
for i = 1, #entries, 2 do
  local known = call('HMGET', key_command .. entries[i], 'holder', 'token')
  found[#found + 1] = {entries[i], entries[i + 1], known[1] or '', known[2] or '0'}
end
return found
