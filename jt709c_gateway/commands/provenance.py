"""Where the form of a command comes from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Provenance(StrEnum):
    """Who says that a lock understands a command in this form; the weakest comes last."""

    DOCUMENTED = "documented"
    """The maker, a manual, or a recording of a unit that obeyed it."""
    STANDARD = "standard"
    """JT/T 808, which the dialect follows; no unit of this maker is known to obey it."""
    ASSUMED = "assumed"
    """No public document."""


def weakest(found: Iterable[Provenance]) -> Provenance:
    """The provenance of something that rests on all of these."""
    return max(found, key=list(Provenance).index, default=Provenance.DOCUMENTED)
