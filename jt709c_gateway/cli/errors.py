"""Errors that a subcommand shows as one line."""

import click


class UserError(click.ClickException):
    """An error that the user can fix, shown as one line."""

    exit_code = 2
