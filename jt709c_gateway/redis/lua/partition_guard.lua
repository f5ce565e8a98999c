-- Refuses a gateway that was suspended while its fleet was divided in another way. First part of the scripts by which a
-- gateway writes; ARGV[1] is the prefix. Without a marker it goes on: Redis may have lost its data.

do
  -- An error means that our user may not read it, which only a single partition does without.
  local marker = redis.pcall('GET', key_partitions)
  if type(marker) == 'string' and marker ~= partition_count then
    error({err = 'DIVIDED ' .. marker})
  end
end
