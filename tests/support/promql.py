"""Parses PromQL: enough of its grammar for the expressions in etc/."""

import re
from collections.abc import Iterator

from attrs import frozen

_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_SELECTOR = re.compile(r"\b([a-z_]\w*)\s*\{([^}]*)\}", re.IGNORECASE)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')
_RANGE = re.compile(r"\[[^]]*\]")
_NAME = re.compile(r"\b[a-z_]\w*", re.IGNORECASE)
#: Words that are not metrics.
_WORDS = {"and", "or", "unless", "by", "on", "group_left", "offset"}
_FUNCTIONS = {"sum", "max", "min", "rate", "increase", "histogram_quantile", "absent", "abs"}


@frozen
class Selector:
    """A metric with the values of each of its labels; a value may be a variable of Grafana."""

    metric: str
    values: dict[str, list[str]]


def selectors(expression: str) -> Iterator[Selector]:
    """Return the metrics of an expression: words that are no functions or operators."""
    rest = _RANGE.sub("", _CLAUSE.sub("", expression))
    for metric, matchers in _SELECTOR.findall(rest):
        values = {}
        for one in filter(None, matchers.split(",")):
            matcher = _MATCHER.fullmatch(one)
            assert matcher is not None, f"{one!r} in {expression}"
            label, operator, value = matcher.groups()
            values[label] = value.split("|") if operator in ("=~", "!~") else [value]
        yield Selector(metric, values)
    for name in _NAME.findall(_SELECTOR.sub("", rest)):
        if name not in _WORDS | _FUNCTIONS:
            yield Selector(name, {})


def grouping_labels(expression: str) -> set[str]:
    """Return the labels that an expression groups or matches by."""
    return {label.strip() for inside in _CLAUSE.findall(expression) for label in inside.split(",")} - {""}
