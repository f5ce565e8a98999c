"""The profiles of a gateway: loads them, selects one for a lock, and checks commands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import attrs

from jt709c_gateway.commands.catalogue import CATALOGUE, LOCAL_COMMANDS
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles.loader import read_profile, without_rival
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.spec import CheckedCommand, CommandSpec, Profile, check_params
from jt709c_gateway.commands.profiles.templates import RawTemplate
from jt709c_gateway.commands.profiles.toml_table import ProfileError
from jt709c_gateway.commands.value_description import unknown_name

LOCAL_PARAMS: Final[Mapping[str, Mapping[str, Param]]] = {
    "cancel": {"id": Param("id", ParamKind.TEXT, required=True, longest=64)},
    "clear_lockout": {},
}
"""Parameters of the commands that the gateway executes itself."""


@attrs.frozen
class _Document:
    file: str
    data: Mapping[str, Any]
    shipped: bool

    @property
    def name(self) -> str:
        name = self.data.get("name")
        if not isinstance(name, str) or not name:
            raise ProfileError(self.file, "name", "missing; expected text")
        return name


class ProfileRegistry:
    """The profiles of a gateway.

    ``allow_raw`` lets through commands that write bytes as they are. Raises :class:`ProfileError` where two
    profiles claim the same locks; one from the operator goes before a shipped one.
    """

    def __init__(self, profiles: Iterable[Profile], *, allow_raw: bool = False) -> None:
        self._allow_raw = allow_raw
        # The operator's first: of two firmware patterns that fit, theirs counts.
        self._profiles = {one.name: one for one in sorted(profiles, key=lambda one: one.shipped)}
        self._devices = self._claims("devices")
        self._prefixes = self._claims("prefixes")
        self._general = self._by_dialect()
        self._names = CATALOGUE.keys() | {name for one in self._profiles.values() for name in one.commands}

    def knows(self, command: str) -> bool:
        """Whether the catalogue or a profile has a command of this name."""
        return command in self._names

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """The profiles by name."""
        return self._profiles

    def pick(self, device: str, dialect: str | None, firmware: str | None = None) -> Profile | None:
        """Select the profile of a lock: by its id, then its longest prefix, then firmware, then dialect.

        A profile that names the id counts whatever the lock speaks; the others must be of its dialect.
        ``dialect`` is ``None`` for a lock that has not connected yet, ``firmware`` until it has reported it;
        ``None`` is returned when nothing tells which profile it is.
        """
        if device in self._devices:
            return self._devices[device]
        for length in range(len(device), 0, -1):
            profile = self._prefixes.get(device[:length])
            if profile is not None and dialect in (None, profile.dialect):
                return profile
        if dialect is None:
            return None
        if firmware is not None:
            for profile in self._profiles.values():
                if profile.dialect == dialect and any(fnmatchcase(firmware, one) for one in profile.firmware):
                    return profile
        return self._general.get(dialect)

    def validate(self, command: Command, profile: Profile) -> CheckedCommand:
        """Check a command against its lock's profile; raise :class:`InvalidCommand` naming the command."""
        try:
            spec = self._spec(command, profile)
            return CheckedCommand(command, spec, spec.check(command.params))
        except InvalidCommand as error:
            raise error.about(command) from None

    def validate_loosely(self, command: Command) -> None:
        """Check a command for a lock without a known profile, or one that the gateway executes itself.

        Raises :class:`InvalidCommand` where no profile could take it. A catalogue name that no profile has
        passes: what the lock speaks is not known.
        """
        try:
            self._check_loosely(command)
        except InvalidCommand as error:
            raise error.about(command) from None

    def secret_names(self, command: str) -> frozenset[str] | None:
        """The parameters of a command that are secret in any profile, to mask while the profile is unknown.

        ``None``, hide them all, where no profile knows the command.
        """
        found = [
            profile.commands[command] for profile in self._profiles.values() if command in profile.commands
        ]
        if not found and command not in LOCAL_COMMANDS:
            return None
        return frozenset[str]().union(*(one.secret_names for one in found))

    def spec_of(self, profile: str, command: str, params: Mapping[str, object]) -> CommandSpec | None:
        """Find the form of a stored command by its record; its secrets may be masked.

        ``None`` when the profiles no longer know it.
        """
        found = self._profiles.get(profile)
        definition = None if found is None else found.commands.get(command)
        try:
            return None if definition is None else definition.choose(params)
        except InvalidCommand:
            return None

    def _spec(self, command: Command, profile: Profile) -> CommandSpec:
        definition = profile.commands.get(command.name)
        if definition is None:
            known = ", ".join(sorted(profile.commands))
            named = command.name if self.knows(command.name) else unknown_name(command.name, profile.commands)
            raise InvalidCommand("command", f"{named} is not in profile {profile.name}", f"one of {known}")
        spec = definition.choose(command.params)
        if isinstance(spec.template, RawTemplate) and not self._allow_raw:
            raise InvalidCommand(
                "command", f"{command.name} is switched off", "a gateway run with --allow-raw"
            )
        return spec

    def _check_loosely(self, command: Command) -> None:
        if command.name in LOCAL_COMMANDS:
            params = LOCAL_PARAMS[command.name]
            check_params(params, command.params, frozenset(params))
            return
        able = [profile for profile in self._profiles.values() if command.name in profile.commands]
        if not self.knows(command.name):
            problem = f"{unknown_name(command.name, self._names)} is not known"
            raise InvalidCommand("command", problem, f"one of {', '.join(sorted(self._names))}")
        errors = []
        for profile in able:
            try:
                self._spec(command, profile).check(command.params)
            except InvalidCommand as error:
                errors.append(error)
            else:
                return
        if errors:
            raise errors[0]

    def _claims(self, key: str) -> dict[str, Profile]:
        claims: dict[str, Profile] = {}
        for profile in sorted(self._profiles.values(), key=lambda one: not one.shipped):
            for claim in getattr(profile, key):
                rival = claims.get(claim)
                if rival is not None and rival.shipped == profile.shipped:
                    problem = f"{claim} is claimed by {rival.name} too; expected it in one profile"
                    raise ProfileError(profile.name, f"match.{key}", problem)
                claims[claim] = profile
        return claims

    def _by_dialect(self) -> dict[str, Profile]:
        general: dict[str, Profile] = {}
        for profile in sorted(self._profiles.values(), key=lambda one: not one.shipped):
            if not profile.general:
                continue
            rival = general.get(profile.dialect)
            if rival is not None and rival.shipped == profile.shipped:
                problem = f"missing; {rival.name} is for every {profile.dialect} too"
                raise ProfileError(
                    profile.name, "match", f"{problem}; expected devices, prefixes or firmware"
                )
            general[profile.dialect] = profile
        return general


def load_profiles(
    directory: Path | None = None, *, files: Iterable[Path] = (), allow_raw: bool = False
) -> ProfileRegistry:
    """Load the shipped profiles, extended or replaced by those of ``directory`` and ``files``.

    A profile of the same name takes a shipped one's place; with ``extends = "jt709"`` it takes over that
    profile's commands, and what it says about a command replaces key by key what was said before. Raises
    :class:`ProfileError`.
    """
    shipped = _documents(_shipped_files(), shipped=True)
    chosen = list(files)
    if directory is not None:
        try:
            chosen += [path for path in sorted(directory.iterdir()) if path.suffix == ".toml"]
        except OSError as error:
            raise ProfileError(
                str(directory), "", f"{error.strerror}; expected a directory of profiles"
            ) from None
    own = _documents([(str(path), path) for path in chosen], shipped=False)
    documents = {**shipped, **own}
    return ProfileRegistry(
        (
            read_profile(one.file, _resolved(one, documents, shipped), shipped=one.shipped)
            for one in documents.values()
        ),
        allow_raw=allow_raw,
    )


def _shipped_files() -> list[tuple[str, Traversable]]:
    folder = resources.files(__package__)
    return sorted((item.name, item) for item in folder.iterdir() if item.name.endswith(".toml"))


def _documents(files: Iterable[tuple[str, Traversable]], *, shipped: bool) -> dict[str, _Document]:
    documents: dict[str, _Document] = {}
    for file, path in files:
        try:
            document = _Document(file, tomllib.loads(path.read_bytes().decode()), shipped)
        except OSError as error:
            raise ProfileError(file, "", f"{error.strerror}; expected a readable file") from None
        except UnicodeDecodeError:
            raise ProfileError(file, "", "not UTF-8; expected TOML in UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(file, "", f"{error}; expected TOML") from None
        if document.name in documents:
            other = documents[document.name].file
            raise ProfileError(file, "name", f"{document.name} is in {other} too; expected a name of its own")
        documents[document.name] = document
    return documents


def _resolved(
    document: _Document,
    documents: Mapping[str, _Document],
    shipped: Mapping[str, _Document],
    trail: tuple[_Document, ...] = (),
) -> dict[str, Any]:
    """Merge a document with the profile that it extends."""
    wanted = document.data.get("extends")
    if wanted is None:
        return dict(document.data)
    # A shipped profile builds on shipped ones, whatever an operator makes of them.
    known = shipped if document.shipped or wanted == document.name else documents
    parent = known.get(wanted) if isinstance(wanted, str) else None
    trail = (*trail, document)
    if parent is None or any(parent is one for one in trail):
        others = ", ".join(sorted(shipped))
        raise ProfileError(
            document.file, "extends", f"is {wanted!r}; expected a profile not built on this: {others}"
        )
    base = _resolved(parent, documents, shipped, trail)
    if wanted != document.name:
        # The locks a profile is for are its own; the operator's is for others than the one it builds on.
        base.pop("match", None)
    return {
        **base,
        **document.data,
        "commands": _merged_commands(base.get("commands"), document.data.get("commands")),
    }


def _merged_commands(base: Any, own: Any) -> Any:
    if not isinstance(own, dict) or not isinstance(base, dict):
        return own if own is not None else base or {}
    merged = dict(base)
    for name, command in own.items():
        before = base.get(name)
        if not isinstance(command, dict) or not isinstance(before, dict):
            merged[name] = command
            continue
        merged[name] = {**without_rival(before, command), **command}
        if isinstance(before.get("params"), dict) and isinstance(command.get("params"), dict):
            merged[name]["params"] = {**before["params"], **command["params"]}
    return merged
