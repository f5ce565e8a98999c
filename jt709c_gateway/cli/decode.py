"""`jt709c decode`: decodes frames of locks."""

import sys

import click

from jt709c_gateway.cli import completion_values


@click.command(short_help="Decode frames into messages or events.")
@click.argument("hex_text", nargs=-1, metavar="[HEX]...")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Read lines from a file; - is standard input.",
)
@click.option("--jsonl", is_flag=True, help="Print one JSON object per frame.")
@click.option("--secrets", is_flag=True, help="Show passwords instead of masking them.")
def decode(hex_text: tuple[str, ...], path: str | None, jsonl: bool, secrets: bool) -> None:
    """Decode frames given as hex, or as lines of a file.

    A line of hex may hold several frames; of a line of JSON, the "frame" is decoded. Spaces, colons, 0x and
    upper case don't matter; sentences may be given as text. HEX may be - for standard input. The exit status
    is 1 if any input is malformed.

    \b
    Examples:
        jt709c decode 7e0002000308155885891510deead3ce647e
        jt709c decode "(794308010679,1,001,BASE,2,TIME)"
        jt709c decode --file frames.txt --jsonl
    """
    from jt709c_gateway.cli import frame_input
    from jt709c_gateway.cli.message_format import FramePrinter

    items = frame_input.items(hex_text, path)
    decoder = frame_input.FrameDecoder(secrets)
    printer = None if jsonl else FramePrinter()
    malformed = False
    for item in items:
        for result in decoder.decode(item):
            malformed |= result.error is not None
            if printer is None:
                sys.stdout.buffer.write(frame_input.to_line(result))
            else:
                printer.show(result)
    sys.stdout.flush()
    if malformed:
        sys.exit(1)
