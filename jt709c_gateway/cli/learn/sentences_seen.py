"""Compares captured sentences with those of a profile by word, number and arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from jt709c_gateway.cli.learn.capture import Captured
from jt709c_gateway.commands.profiles import CommandSpec, Profile
from jt709c_gateway.commands.profiles.templates import Line, Placeholder, PnnTemplate, SentenceTemplate
from jt709c_gateway.protocol import sentences

#: Words that no password follows; arguments of others that are as long as a password are masked.
_HARMLESS: Final = frozenset(["BASE", "GSENS", "WLNET", "P01", "P14", "P22", "P45", "P69", "@JT"])
_SHOWN: Final = 4
MASK: Final = "*"


@frozen
class SeenSentence:
    """A captured sentence without its head; `number` is None in the `Pnn` form."""

    word: str
    number: int | None
    arguments: tuple[str, ...] = field(repr=False)
    serial: int | None = None
    sent: bool | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        """Word and number, which are constant in a template."""
        return self.word, self.number

    def shown(self, secrets: Sequence[str]) -> str:
        """The sentence without its head; certain and possible passwords are masked with `*`."""
        number = [] if self.number is None else [str(self.number)]
        rest = [*number, *self.arguments]
        masked = sentences.mask_arguments(self.word, rest)
        if self.word not in _HARMLESS:
            masked = [MASK * len(one) if len(one) >= _SHOWN else one for one in masked]
        hidden = [
            MASK * len(now) if given in secrets else now for given, now in zip(rest, masked, strict=True)
        ]
        return ",".join([self.word, *hidden])


def read_sentences(captured: Captured) -> SeenSentence | None:
    """Parse a captured sentence; None if it is damaged."""
    text = captured.raw[1:-1].decode("latin-1")
    if not text[:1].isdecimal():
        word, *arguments = text.split(",")
        return SeenSentence(word, None, tuple(arguments), None, captured.sent is not False)
    try:
        parsed = sentences.parse(captured.raw)
    except sentences.SentenceError:
        return None
    if not parsed.grouped:
        return SeenSentence(parsed.word, None, parsed.arguments, None, captured.sent or False)
    first = parsed.arguments[0] if parsed.arguments else ""
    if not (first.isascii() and first.isdecimal() and len(first) <= 5):
        return None
    return SeenSentence(parsed.word, int(first), parsed.arguments[1:], parsed.serial, captured.sent)


@define
class Conversation:
    """The captured sentences, in order."""

    said: list[SeenSentence]

    @classmethod
    def of(cls, captured: Sequence[Captured]) -> Conversation:
        """Return the valid sentences, without immediate repetitions."""
        said: list[SeenSentence] = []
        for one in filter(None, map(read_sentences, captured)):
            if not said or said[-1] != one:
                said.append(one)
        return cls(said)

    def is_answer(self, index: int) -> bool:
        """Return whether a sentence answers an earlier one, by serial and word or by direction."""
        one = self.said[index]
        if one.sent is not None:
            return not one.sent
        return any(
            before.serial == one.serial and before.word == one.word
            for before in self.said[max(0, index - 8) : index]
        )


def template_texts(template: SentenceTemplate | PnnTemplate) -> list[str]:
    """Return the sentences of a template as in a profile; the last one is answered."""
    behind = _line(template.line)
    if isinstance(template, PnnTemplate):
        return [*map(_line, template.before), behind]
    return [",".join([template.group, str(template.number), *([behind] if behind else [])])]


def _line(line: Line) -> str:
    return "".join(piece if isinstance(piece, str) else _placeholder(piece) for piece in line.pieces)


def _placeholder(piece: Placeholder) -> str:
    form = f":{piece.time_format}" if piece.time_format else ""
    suffix = ".count" if piece.count else ".pages" if piece.pages else ""
    return f"{{{piece.name}{suffix}{form}}}"


@frozen
class Form:
    """A sentence of a command, and the condition for its use."""

    command: str
    condition: str
    spec: CommandSpec
    text: str

    @property
    def key(self) -> tuple[str, int | None]:
        """Word and number."""
        template = self.spec.template
        if isinstance(template, SentenceTemplate):
            return template.group, template.number
        return self.text.partition(",")[0], None

    @property
    def is_of_several(self) -> bool:
        """Whether the command consists of more sentences than this one."""
        return isinstance(self.spec.template, PnnTemplate) and bool(self.spec.template.before)


def forms(profile: Profile) -> Iterator[Form]:
    """Yield the sentences of all commands of a profile, of several the one that is answered last."""
    for name, definition in profile.commands.items():
        found = [(variant.describe(), variant.spec) for variant in definition.variants]
        if definition.base is not None:
            found.append(("", definition.base))
        for condition, spec in found:
            if isinstance(spec.template, SentenceTemplate | PnnTemplate):
                for text in template_texts(spec.template):
                    yield Form(name, condition, spec, text)


def compared(one: SeenSentence, known: Sequence[Form]) -> list[str]:
    """Describe each form of the profile with this word, and how the sentence differs from it."""
    lines = []
    for form in known:
        if form.key[0] != one.word:
            continue
        condition = f" ({form.condition})" if form.condition else ""
        lines.append(
            f"{form.command}{condition}, {form.spec.provenance}: {form.text}; {_difference(one, form)}"
        )
    return lines or [f"no command of the profile has the word {one.word}"]


def _difference(one: SeenSentence, form: Form) -> str:
    if one.number is not None and form.key[1] != one.number:
        return f"number {one.number} here, {form.key[1]} there"
    behind = form.text.split(",")[1 if one.number is None else 2 :]
    if len(behind) != len(one.arguments):
        return f"{len(one.arguments)} arguments here, {len(behind)} there"
    for place, (here, there) in enumerate(zip(one.arguments, behind, strict=True), 1):
        if not there.startswith("{") and here != there:
            return f"argument {place} differs"
    return "the same"
