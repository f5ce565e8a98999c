-- The final states of a command, as in docs/commands.rst. Another script is appended to this file, and reads the table.

local ENDED = {
  done = true, confirmed = true, rejected = true, failed = true, unconfirmed = true, timed_out = true,
  uncertain = true, expired = true, cancelled = true, invalid = true,
}
