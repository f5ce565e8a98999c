"""Command profiles: the commands of each family of locks, as data (docs/dialects.rst).

The TOML files beside this module are the shipped profiles; the head of ``jt709.toml`` describes the format.
"""

from __future__ import annotations

from jt709c_gateway.commands.profiles.registry import ProfileRegistry, load_profiles
from jt709c_gateway.commands.profiles.spec import CheckedCommand, CommandSpec, Profile
from jt709c_gateway.commands.profiles.templates import (
    BinaryMessage,
    GroupedSentence,
    PnnSentence,
    RawBytes,
    Rendered,
)
from jt709c_gateway.commands.profiles.toml_table import ProfileError

__all__ = [
    "BinaryMessage",
    "CheckedCommand",
    "CommandSpec",
    "GroupedSentence",
    "PnnSentence",
    "Profile",
    "ProfileError",
    "ProfileRegistry",
    "RawBytes",
    "Rendered",
    "load_profiles",
]
