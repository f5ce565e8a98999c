-- Returns the indices, from 0, of the commands that our user may not run; touches no key.
--
-- ARGV  1 MessagePack: arrays of a command and its keys, or channel; unknown commands are skipped

local denied = {}
for index, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(command))
  if known and not allowed then
    denied[#denied + 1] = index - 1
  end
end
return denied
