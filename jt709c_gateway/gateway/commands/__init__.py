"""Commands, from the intake list in Redis to the device and to their outcome (docs/commands.rst).

From the top to the bottom; a module imports only from those below it:

- `consumer` moves entries from the intake list; `recovery` and `identity_queries` start other work.
- `intake` queues valid entries (`acceptance`); `local_commands` executes those for the gateway itself,
  `entry_rejections` ends the others.
- `dispatcher` keeps one executor per device.
- `executor` executes a device's commands, one at a time; `address_query` has it prove its UDP address.
- `confirmations` publishes what evidence has confirmed, and undoes it when Redis refuses.
- `claimer` claims a command, `sender` sends it: `authorization` checks it again, `encoder` frames it.
- `evidence_tracker` and `matching` find the command that a message answers or confirms; `restore` restores
  commands from Redis, `rejections` records those that are refused.
- `context` is what all of them share; `address_proof` decides what may be sent over UDP.
- `publisher` commits each step of a command with its event; `claims` has the commands that we own.
"""
