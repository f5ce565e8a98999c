"""`jt709c explain`: shows every byte of a frame with its field, value and meaning."""

import sys

import click

from jt709c_gateway.cli import completion_values


@click.command(short_help="Explain frames byte by byte.")
@click.argument("hex_text", nargs=-1, metavar="[HEX]...")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Read lines from a file; - is standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per frame.")
@click.option("--secrets", is_flag=True, help="Show passwords instead of masking them.")
def explain(hex_text: tuple[str, ...], path: str | None, as_json: bool, secrets: bool) -> None:
    """Explain frames of any dialect byte by byte.

    Frames are given as for decode: as hex, as sentences, or as lines of a file; HEX may be - for standard
    input. Commands to a lock are understood too. Each field is a line: offset, bytes as received, name, value
    and meaning. A frame that is broken is shown as far as it can be read, and says where it breaks.

    The exit status is 1 when a frame is broken or there is something else between the frames.

    \b
    Examples:
        jt709c explain 7e0002000308155885891510deead3ce647e
        jt709c explain --json --file frames.txt
    """
    from datetime import UTC, datetime

    from jt709c_gateway.cli import frame_input
    from jt709c_gateway.cli.field_table import ExplanationPrinter
    from jt709c_gateway.dissector import Explainer
    from jt709c_gateway.protocol.events import to_json

    explainer = Explainer(secrets)
    printer = None if as_json else ExplanationPrinter()
    broken = False
    for item in frame_input.items(hex_text, path):
        for explanation in explainer.explain_all(item, datetime.now(UTC)):
            broken |= explanation.broken
            if printer is None:
                sys.stdout.buffer.write(to_json(explanation) + b"\n")
            else:
                printer.show(explanation)
    sys.stdout.flush()
    if broken:
        sys.exit(1)
