"""The gateway: everything between the transports and Redis.

::

    transport/            gateway/                                              redis/

    tcp, udp --frames--> connection --messages--> gateway --records--> committer --commit.lua--> Redis
        ^                    |  ^                    |                     |
        |                    |  '------ answers, after the commit ---------'
        '------- bytes ------'                       | each message
                                                     v
    Redis --intake list--> consumer -> intake -> dispatcher -> executor -> encoder --> session.send
                           '----------------- commands/ ----------------'

The parts:

- `gateway.Gateway` connects all others; `connection.DeviceConnection` is one TCP connection or UDP address.
- `policy` has the limits, `counters` counts and `metrics` exports.
- `sessions` holds one `Session` per device; `session_lifecycle` starts, replaces and ends them, `udp_guests`
  handles datagrams from other addresses than the session's.
- `admission` and `rate_limit` decide which devices are processed, and how often; `event_budget`,
  `new_device_limit`, `session_limits` and `takeover_limit` are the single limits, `limit_warnings` and
  `log_limit` bound what is logged of them.
- `event_records` builds the records of `commit.lua`; `event_ids`, `lock_clock` and `sublock_states` supply
  ids, times and states.
- `membership` holds this run's lease; `background_tasks` runs everything periodic. `data_loss`, `clock_sync`,
  `rights_check` and `fleet_stats` watch Redis.
- `commands/` executes commands (docs/commands.rst).

The way of a frame: a transport passes frames to `DeviceConnection.received`, which decodes them. A device's
first message is admitted and gets a session. `Gateway.handle_message` updates the device's clock, matches the
message to its commands, builds the record and submits it to the committer. After the commit the committer
calls `DeviceConnection.committed`, which sends the answer. A full committer pauses reading.

The way of a command: `IntakeConsumer` moves an entry from the shared list to this gateway's own one. `Intake`
validates it and appends it to the device's queue. `CommandDispatcher.dispatch` lets the device's
`CommandExecutor` claim it: the executor authorizes and renders it, commits a `writing` record, and only then
sends the bytes. `matching` recognizes the answer and the evidence in later messages; every step is published.
`CommandRecovery` settles the commands of a dead gateway.
"""
