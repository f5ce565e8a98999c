"""Commands, from the intake list in Redis to the device and to their outcome (docs/commands.rst).

From the top to the bottom; a module imports only from those below it:

- `consumer` moves entries from the intake list; `recovery` and `identity_queries` start other work.
- `intake` queues valid entries (`acceptance`); `local_commands` executes those for the gateway itself,
  `entry_rejections` ends the others.
- `dispatcher` keeps one executor per device.
- `executor` claims a device's commands, one at a time; `address_query` has the device prove its UDP address.
- `sender` writes one command: `encoder` frames it, `authorization` checks it again.
- `evidence_tracker` and `matching` find the command that a message answers or confirms; `restore` restores
  commands from Redis, `rejections` records those that are refused.
- `context` is what all of them share; `address_proof` decides what may be sent over UDP.
- `publisher` commits each step of a command with its event; `claims` has the commands that we own.
"""
