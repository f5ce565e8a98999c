"""`jt709c completion`: prints the completion script of a shell."""

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes subcommands, options, commands, parameters and device ids.

    \b
    Put one of these into ~/.bashrc, ~/.zshrc (behind compinit), or run it once:
        eval "$(jt709c completion bash)"
        eval "$(jt709c completion zsh)"
        jt709c completion fish > ~/.config/fish/completions/jt709c.fish

    Ids are those of the devices that were heard last, if Redis (--redis, JT709C_REDIS) answers within half a
    second.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None, "click has these shells"
    click.echo(made(context.find_root().command, {}, "jt709c", "_JT709C_COMPLETE").source())
