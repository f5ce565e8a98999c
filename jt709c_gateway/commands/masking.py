"""Masks the secret parameters of commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MASK: Final = "******"


def item_key(key: str) -> str:
    """Normalize the id of a JT/T 808 parameter: ``0x0012``, ``0012`` and ``12`` are the same."""
    return key.lower().removeprefix("0x").lstrip("0")


def _is_secret(path: str, names: frozenset[str]) -> bool:
    # A safety net: names such as password are masked even if the profile does not mark them as secret.
    return path in names or "passw" in path or "secret" in path


def _secret_items(name: str, names: frozenset[str]) -> frozenset[str]:
    prefix = f"{name}."
    return frozenset(item_key(other.removeprefix(prefix)) for other in names if other.startswith(prefix))


def masked(name: str, value: object, names: frozenset[str] | None) -> object:
    """Replace the secrets in a parameter by ``******``; if ``names`` is ``None``, the whole value."""
    if names is None or _is_secret(name, names):
        return MASK
    items = _secret_items(name, names)
    if items and isinstance(value, dict):
        return {key: MASK if item_key(key) in items else item for key, item in value.items()}
    return value


def secrets(name: str, value: object, names: frozenset[str] | None) -> Iterator[str]:
    """Yield the secrets in a parameter as text."""
    if names is None or _is_secret(name, names):
        yield from _leaves(value)
        return
    items = _secret_items(name, names)
    if items and isinstance(value, dict):
        for key, item in value.items():
            if item_key(key) in items:
                yield from _leaves(item)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
