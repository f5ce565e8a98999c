"""The gateway: everything between the transports and Redis.

::

    transport/              gateway/                                          redis/

    tcp, udp ---frames---> connection ---messages---> gateway ---records---> committer ---> Redis
        ^                   |   |  ^                   |                         |
        |                   |   |  '--- answers, after | the commit -------------'
        '------ bytes ------'   | new device           | clocks, states
                                v                      v
                        session_admission ------> sessions (session_lifecycle, session_table)
                                                       | each message; who comes and goes
                                                       v
    Redis ---commands---> commands/: consumer -> intake -> dispatcher -> executor -> sender ---> device

The parts, from the top to the bottom:

- `background_tasks` runs everything periodic: `adoption` takes over what dead gateways leave, `membership`
  holds this run's number and lease. `data_loss`, `clock_sync`, `rights_check` and `fleet_stats` watch Redis;
  `metrics` exports what `counters` counts.
- `commands/` executes commands (docs/commands.rst).
- `gateway.Gateway` holds and connects what follows.
- `connection.DeviceConnection` is one TCP connection or UDP address; it sees the gateway as
  `interfaces.ConnectionGateway`. `pending_frames` keeps what it can't process yet.
- `session_admission` decides whether a message gets a session, by `admission` (`allowlist_file`),
  `new_device_limit` and `rate_limit`. `udp_guests` handles datagrams from other addresses than the session's;
  `udp_decoder` limits their answers.
- `session_lifecycle` starts, replaces and ends sessions, in the `session_table` and in Redis.
- `rate_limit` keeps each device's `event_budget`; `session_limits` and `takeover_limit` are further limits.
  `limit_warnings`, `log_limit` and `malformed` bound what is logged.
- `event_records` builds the records of messages, `gateway_events` the gateway's own events; `event_ids`,
  `lock_clock` and `sublock_states` supply ids, times and states.
- `sessions.Session` is what is known of a connected device; `policy` has the limits, and `Moment`.

The way of a frame: a transport gives frames to `DeviceConnection.received`, which decodes them. The first
message of a device, and one beyond its budget, passes `SessionAdmission.session_for`.
`Gateway.handle_message` lets the session observe the clocks, gives the message to the device's commands, lets
the session observe the states, builds the record and submits it. After the commit the committer calls
`DeviceConnection.committed`, which sends the answer. A full committer pauses reading.

The way of a command: `IntakeConsumer` moves an entry from the shared list to this gateway's own one. `Intake`
validates it and appends it to the device's queue. `CommandDispatcher.dispatch` lets the device's
`CommandExecutor` claim it. `sender` authorizes and renders it, commits a `writing` record, and only then
sends the bytes. `matching` recognizes the answer and the evidence in later messages; every step is published.
`CommandRecovery` settles the commands of a dead gateway.
"""
