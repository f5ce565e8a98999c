"""The sources that document the form of a command."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Provenance(StrEnum):
    """The source that documents this form of a command, the weakest last."""

    DOCUMENTED = "documented"
    """The maker, a manual, or a recording of a unit that obeyed it."""
    STANDARD = "standard"
    """JT/T 808, which the dialect follows; no unit of this maker is known to obey it."""
    ASSUMED = "assumed"
    """No public document."""


def weakest(found: Iterable[Provenance]) -> Provenance:
    """Return the weakest of several provenances."""
    return max(found, key=list(Provenance).index, default=Provenance.DOCUMENTED)
