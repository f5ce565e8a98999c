"""Faults under load: a real gateway, a real server, and a record of all reports and commands.

`fleet` simulates the locks, `issuer` pushes commands, `proxy` relays the connections to Redis, `observations`
records the traffic and checks it against Redis, and `fault_case` combines these for the tests. `plan`,
`injector` and `long_run` are the long run of ``python -m tests.faults``.
"""
