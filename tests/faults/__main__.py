"""``python -m tests.faults --faults 1000 --seed 7``: the long run of the fault suite."""

import random
import sys
from datetime import datetime

import click

from tests.faults.long_run import run


@click.command()
@click.option("--faults", default=1000, show_default=True, help="Number of faults.")
@click.option("--seed", type=int, help="Seed of an earlier run, to repeat its plan. Random by default.")
@click.option("--quiet", is_flag=True, help="Print the summary only.")
def main(faults: int, seed: int | None, quiet: bool) -> None:
    """Inject faults into gateways, servers and connections; exit status 1 when a promise was broken."""
    seed = random.randrange(1_000_000) if seed is None else seed
    click.echo(f"seed {seed}")

    def say(line: str) -> None:
        if not quiet:
            click.echo(f"{datetime.now():%H:%M:%S} {line}")

    tally = run(faults, seed, say)
    click.echo(tally.summary(seed))
    sys.exit(1 if tally.broken else 0)


if __name__ == "__main__":
    main()
