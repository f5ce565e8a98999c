"""Faults under load: a real gateway, a real server, and a ledger of what was sent, answered and published.

`fleet` plays the locks, `clerk` gives the commands, `proxy` stands between gateway and Redis, `ledger` keeps
the books and `scene` puts all of it together for the tests.
"""
