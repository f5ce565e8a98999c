"""`jt709c label`: what people call locks."""

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import check_device, check_devices, output_options, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions

_OPERATOR = "jt709c-operator"


@click.group()
def label() -> None:
    """Give locks names, groups, plates and notes, which are shown instead of their ids.

    Everywhere in jt709c, a lock may be given by its name or plate, if only one lock has it. Writing needs the
    rights of jt709c-operator, reading those of jt709c-reader.

    \b
    Examples:
        jt709c label set 794308010679 --name "Truck 12" --group north
        jt709c label import trucks.csv
        jt709c devices --group north
    """


@label.command("set", short_help="Write fields of a label.")
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@click.option("--name", metavar="TEXT", help="The name, such as Truck 12; at most 64 characters.")
@click.option("--group", metavar="TEXT", help="The group; at most 64 characters.")
@click.option("--plate", metavar="TEXT", help="The plate of the vehicle; at most 64 characters.")
@click.option("--note", metavar="TEXT", help="Anything else; at most 500 characters.")
@redis_options
def set_label(device: str, redis: RedisOptions, prefix: str, **fields: str | None) -> None:
    """Write the given fields of the label of DEVICE, a device id, an IMEI or a name; others stay as they are.

    An empty TEXT removes a field. The lock need not have reported yet.

    \b
    Examples:
        jt709c label set 794308010679 --name "Truck 12" --group north
        jt709c label set "Truck 12" --plate ""
    """
    from jt709c_gateway.cli.label_run import change, check_fields, print_label
    from jt709c_gateway.cli.query import query

    given = check_fields({name: value for name, value in fields.items() if value is not None})
    if not given:
        raise UserError("there is nothing to write: give --name, --group, --plate or --note")
    named, found = query(redis, prefix, "write labels", lambda fleet: change(fleet, device, given), _OPERATOR)
    print_label(named, found, as_json=False)


@label.command(short_help="Show a label.")
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(device: str, redis: RedisOptions, prefix: str, as_json: bool) -> None:
    """Show the label of DEVICE, a device id, an IMEI or a name.

    \b
    Examples:
        jt709c label show 794308010679
    """
    from jt709c_gateway.cli.label_run import print_label, read_one
    from jt709c_gateway.cli.query import query

    named, found = query(redis, prefix, "read labels", lambda fleet: read_one(fleet, device))
    print_label(named, found, as_json)


@label.command(short_help="Remove labels.")
@click.argument(
    "devices",
    nargs=-1,
    required=True,
    metavar="DEVICE...",
    callback=check_devices,
    shell_complete=completion_values.devices,
)
@redis_options
def remove(devices: tuple[str, ...], redis: RedisOptions, prefix: str) -> None:
    """Remove the label of each DEVICE, a device id, an IMEI or a name.

    \b
    Examples:
        jt709c label remove 794308010679
    """
    from jt709c_gateway.cli.label_run import remove_labels
    from jt709c_gateway.cli.query import query

    for line in query(redis, prefix, "write labels", lambda fleet: remove_labels(fleet, devices), _OPERATOR):
        click.echo(line)


@label.command("list", short_help="List labels.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this group; repeatable.")
@redis_options
@output_options
def list_labels(
    texts: tuple[str, ...], groups: tuple[str, ...], redis: RedisOptions, prefix: str, output: str
) -> None:
    """List all labels, also those of locks that have not reported yet.

    Each TEXT is searched in name, group, plate, note and id, in any case of letters.

    \b
    Examples:
        jt709c label list
        jt709c label list --group north --json
    """
    from jt709c_gateway.cli.label_run import label_columns, label_records
    from jt709c_gateway.cli.labels import all_labels
    from jt709c_gateway.cli.query import end_partial, query_all
    from jt709c_gateway.cli.table import print_records
    from jt709c_gateway.redis.label_file import COLUMNS
    from jt709c_gateway.redis.label_search import LabelSearch

    found, away = query_all(redis, prefix, "read labels", all_labels)
    records = label_records(found, LabelSearch(groups, texts))
    print_records(records, label_columns(), COLUMNS, output)
    end_partial(away)


@label.command("import", short_help="Write many labels from a file.")
@click.argument("file", shell_complete=completion_values.files)
@redis_options
def import_labels(file: str, redis: RedisOptions, prefix: str) -> None:
    """Write the labels in FILE, CSV or JSON; - is standard input.

    The first line of CSV names the columns: device and some of name, group, plate and note, separated by
    commas, semicolons or tabs; the text is UTF-8. JSON is an array of objects with these fields. What is not
    there stays as it is, an empty field is removed. Devices are device ids or IMEIs.

    All of FILE is checked before anything is written: with a mistake in it, its line and column are named,
    and nothing is written.

    \b
    Examples:
        jt709c label import trucks.csv
        jt709c label export | sed 's/,north,/,south,/' | jt709c label import -
    """
    from jt709c_gateway.cli.label_run import read_file, write_rows
    from jt709c_gateway.cli.query import query

    try:
        with click.open_file(file, "rb") as opened:
            rows = read_file(file, opened.read())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    changed = query(redis, prefix, "write labels", lambda fleet: write_rows(fleet, file, rows), _OPERATOR)
    click.echo(f"{changed} of {len(rows)} labels changed")


@label.command("export", short_help="Print all labels for a file.")
@redis_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of CSV.")
def export_labels(redis: RedisOptions, prefix: str, as_json: bool) -> None:
    """Print all labels as CSV, which `jt709c label import` takes. Partitions that are away are an error.

    \b
    Examples:
        jt709c label export > labels.csv
    """
    from jt709c_gateway.cli.label_run import print_all
    from jt709c_gateway.cli.labels import all_labels
    from jt709c_gateway.cli.query import end_partial, query_all

    found, away = query_all(redis, prefix, "read labels", all_labels)
    print_all(found, as_json)
    end_partial(away)
