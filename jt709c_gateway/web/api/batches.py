"""Gives one command to many locks, and tells what became of it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec
from attrs import define, evolve, field
from twisted.logger import Logger

from jt709c_gateway.commands.model import (
    ENDED,
    Command,
    CommandState,
)
from jt709c_gateway.redis import batches
from jt709c_gateway.redis.batches import OUTCOME_FIELDS, BatchRecord, OddLock, outcome_of
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.util.timestamps import Timestamp, iso
from jt709c_gateway.web.api.batch_body import (
    MAX_LOCKS,
    OF_BATCH,
    NewBatch,
    asked_for,
    read_batch_id,
    read_devices,
    read_group,
)
from jt709c_gateway.web.api.batch_check import BatchCheck, Candidate
from jt709c_gateway.web.api.command_requests import REQUESTED_WITH_HEADER, CommandRequests
from jt709c_gateway.web.batch_giver import MAX_BATCHES, BatchGiver
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.partitioned_redis import WebPartition, side_by_side
from jt709c_gateway.web.query import BATCH
from jt709c_gateway.web.redis_client import PartitionsAway
from jt709c_gateway.web.roles import Right, User
from jt709c_gateway.web.router import BASE, Result, Route

#: Commands of a batch that its answer names.
MAX_NAMED: Final = 100
_IN_PATH: Final = evolve(BATCH, name="id", place="path", required=True)
_GOOD: Final = frozenset({CommandState.DONE, CommandState.CONFIRMED})
_Found = tuple[CommandState | None, str | None]
"""The state of a command and its reason; None without a record."""
#: Fields of a command that differ between the commands of a batch, or are told otherwise.
_OWN: Final = frozenset({"id", "device", "batch", "issued_by", "created_at", "signature", "params"})


class BatchPreview(msgspec.Struct):
    """What a batch would do: `count` locks would get the command; `physical` says whether it moves a lock.

    `left_out` are the locks that would not, `odd` those that would but differ from the others.
    """

    count: int
    physical: bool
    left_out: list[OddLock]
    odd: list[OddLock]


class BatchCommand(msgspec.Struct):
    """The command of a batch for one lock; `state` is None when no gateway has taken it in."""

    device: str
    id: str
    state: CommandState | None
    reason: str | None


class Batch(msgspec.Struct):
    """A batch and what became of its `count` commands: their number by state in `states`.

    `unrecorded` commands have no record: they were not given yet, or no gateway has taken them in.
    `is_being_given` says whether a gateway gives the rest now. When it doesn't, and some are unrecorded, give
    the batch again with its id. `problems` are the first commands that did not succeed, or are unrecorded.
    """

    id: str
    command: str
    issued_by: str
    created_at: Timestamp
    count: int
    states: dict[str, int]
    unrecorded: int
    is_being_given: bool
    problems: list[BatchCommand]
    left_out: list[OddLock]


_GIVEN: Final = {
    200: Result(
        Batch,
        "The batch was given before. What has no record is given again; no lock gets the command twice.",
        ("location",),
    ),
    202: Result(Batch, "The gateway gives the commands; `/batches/{id}` has their states.", ("location",)),
}


@define(eq=False)
class BatchesApi:
    """The handlers of /batches."""

    log = Logger()

    requests: CommandRequests
    giver: BatchGiver
    _check: BatchCheck = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._check = BatchCheck(self.requests)
        self.giver.wire = self.requests.signed

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        preview, known = {200: Result(BatchPreview)}, {200: Result(Batch)}
        header, body, right = (REQUESTED_WITH_HEADER,), NewBatch, Right.COMMAND
        return [
            Route("POST", "/batches", self.give, _GIVEN, header, body=body, errors=(409,), right=right),
            Route("POST", "/batches/check", self.preview, preview, header, body=body, right=right),
            Route("GET", "/batches/{id}", self.batch, known, (_IN_PATH,)),
        ]

    async def preview(self, request: ApiRequest) -> Response:
        """POST /batches/check: which locks would get a command, and which of them are odd.

        A mistake in the command itself is a 400.
        """
        user = self.requests.admit(request)
        body = request.json_object()
        found = await self._examine(body, read_batch_id(body), user)
        chosen = [one for one in found if one.problem is None]
        left_out, odd = _left_out(found), [one for one in map(Candidate.odd, found) if one is not None]
        physical = any(one.physical for one in chosen)
        return json_response(BatchPreview(len(chosen), physical, left_out, odd))

    async def give(self, request: ApiRequest) -> Response:
        """POST /batches: give a command to several locks.

        Each lock gets one command of the batch, whose id is that of the batch, a hyphen and the lock's, so
        that the same request can be repeated: no lock gets the command twice. The gateway gives 20 commands a
        second. If it ends before it has given all, repeat the request with the same `id`.
        """
        user = self.requests.admit(request)
        body = request.json_object()
        batch_id = read_batch_id(body)
        partition = self._partition(batch_id)
        record = await batches.read(partition.redis, partition.keys, batch_id)
        if record is None:
            record = await self._create(body, batch_id, user)
            is_new = await batches.create(partition.redis, partition.keys, record)
            if not is_new:
                record = await batches.read(partition.redis, partition.keys, batch_id)
        else:
            is_new = False
        if record is None:
            raise ApiError(409, f"id: {batch_id} is in use: expected another id", "id")
        if not is_new:
            self._check_same(record, body, user)
        await self._give(record, body, user)
        self.log.info(
            "batch {id} {given} by web:{user}: {command} for {count} locks",
            id=batch_id,
            given="given" if is_new else "repeated",
            user=user.name,
            command=record.fields["name"],
            count=len(record.devices),
        )
        answer = json_response(await self._state(record), 202 if is_new else 200)
        return evolve(answer, headers={"location": f"{BASE}/batches/{batch_id}"})

    async def batch(self, request: ApiRequest) -> Response:
        """GET /batches/{id}: a batch, and how many of its commands are in each state."""
        batch_id = request.path_param(_IN_PATH)
        partition = self._partition(batch_id)
        record = await batches.read(partition.redis, partition.keys, batch_id)
        if record is None:
            raise ApiError(404, "id: no such batch was given here; they are kept for 7 days", "id")
        return json_response(await self._state(record))

    def _partition(self, batch_id: str) -> WebPartition:
        web = self.requests.web
        return web.partitions[web.layout.number(batch_id)]

    async def _examine(self, body: Mapping[str, Any], batch_id: str, user: User) -> list[Candidate]:
        names = await self._names(body)
        return await self._check.examine(names, batch_id, self._fields(body, names[0], batch_id, user), user)

    async def _names(self, body: Mapping[str, Any]) -> list[str]:
        """Return the names of the locks that a body asks for; raise :class:`ApiError`."""
        group = read_group(body)
        if group is None:
            return read_devices(body)
        answers = await side_by_side(
            self.requests.web.partitions, lambda one: Labels(one.redis, one.keys).all()
        )
        if answers.away:
            raise PartitionsAway(answers.away)
        names = [
            device for labels in answers.values() for device, label in labels.items() if label.group == group
        ]
        if not 0 < len(names) <= MAX_LOCKS:
            problem = f"group: {len(names)} locks are in this group"
            raise ApiError(400, f"{problem}: expected a group of 1 to {MAX_LOCKS} locks", "group")
        return sorted(names, key=lambda name: (len(name), name))

    def _fields(self, body: Mapping[str, Any], name: str, batch_id: str, user: User) -> dict[str, Any]:
        """Return the fields of a body that are those of its commands, checked with a first device."""
        fields = {key: value for key, value in body.items() if key not in OF_BATCH}
        self._check.command(name, batch_id, fields, user)
        return fields

    async def _create(self, body: Mapping[str, Any], batch_id: str, user: User) -> BatchRecord:
        if self.giver.is_full:
            raise ApiError(429, f"{MAX_BATCHES} batches are being given: expected one of them to end first")
        found = await self._examine(body, batch_id, user)
        chosen = [one for one in found if one.problem is None]
        left_out = _left_out(found)
        if not chosen:
            first = left_out[0]
            raise ApiError(
                400,
                f"devices: no lock would get the command; {first.device}: {first.message}",
                "devices",
            )
        return BatchRecord(
            batch_id,
            self._terms(chosen[0].command),
            f"web:{user.name}",
            iso(self.requests.now()),
            asked_for(body),
            {one.name: one.device for one in chosen},
            left_out,
        )

    def _terms(self, command: Command) -> dict[str, Any]:
        """The fields that all commands of a batch share, as JSON has them and without secrets."""
        terms = {name: value for name, value in attrs.asdict(command).items() if name not in _OWN}
        terms["params"] = command.public_params(self.requests.profiles.secret_names(command.name))
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(terms))
        return found

    def _check_same(self, record: BatchRecord, body: Mapping[str, Any], user: User) -> None:
        """Raise :class:`ApiError` when a batch under a known id is another one."""
        name = next(iter(record.devices))
        fields = self._fields(body, name, record.id, user)
        terms = self._terms(self._check.command(name, record.id, fields, user))
        for what, same in (
            ("issued_by", record.issued_by == f"web:{user.name}"),
            ("devices", record.asked == asked_for(body)),
            ("command", record.fields["name"] == terms["name"]),
            ("params or times", record.fields == terms),
        ):
            if not same:
                problem = f"id: {record.id} is the id of another batch, which differs in {what}"
                raise ApiError(409, f"{problem}: expected an id of its own for each batch", "id")

    async def _give(self, record: BatchRecord, body: Mapping[str, Any], user: User) -> None:
        """Begin to give the commands without a record, unless a gateway does that."""
        partition = self._partition(record.id)
        if self.giver.has(record.id) or await batches.is_given(partition.redis, partition.keys, record.id):
            return
        fields = self._fields(body, next(iter(record.devices)), record.id, user)
        states = await self._read_states(record)
        commands = [
            (self.requests.web.of(device), self._check.command(name, record.id, fields, user))
            for name, device in record.devices.items()
            if states[name][0] is None
        ]
        for _, command in commands:
            # What the user may do can have changed since the batch was accepted.
            known = Known(record.devices[command.device], None, None)
            await self.requests.rights.check(user, command, known)
        if not commands or self.giver.has(record.id):
            return
        if self.giver.is_full:
            raise ApiError(429, f"{MAX_BATCHES} batches are being given: expected one of them to end first")
        await self.giver.hold(record.id)
        self.giver.give(record.id, commands)

    async def _state(self, record: BatchRecord) -> Batch:
        partition = self._partition(record.id)
        is_given = self.giver.has(record.id) or await batches.is_given(
            partition.redis, partition.keys, record.id
        )
        found = await self._read_states(record)
        counts = Counter(state for state, _ in found.values() if state is not None)
        unrecorded = sum(state is None for state, _ in found.values())
        problems = [
            BatchCommand(name, record.command_id(name), state, reason)
            for name, (state, reason) in found.items()
            if (state in ENDED - _GOOD if state is not None else not is_given)
        ]
        return Batch(
            record.id,
            record.fields["name"],
            record.issued_by,
            record.created_at,
            len(record.devices),
            {str(state): counts[state] for state in CommandState if counts[state]},
            unrecorded,
            is_given,
            problems[:MAX_NAMED],
            record.left_out,
        )

    async def _read_states(self, record: BatchRecord) -> dict[str, _Found]:
        """Read state and reason of the command for each lock; None without a record."""
        parts: defaultdict[WebPartition, list[str]] = defaultdict(list)
        for name, device in record.devices.items():
            parts[self.requests.web.of(device)].append(name)

        async def ask(partition: WebPartition) -> list[Any]:
            keys = [partition.keys.command(record.command_id(name)) for name in parts[partition]]
            return await partition.redis.readable([("HMGET", key, *OUTCOME_FIELDS) for key in keys])

        answers = await side_by_side(list(parts), ask)
        if answers.away:
            raise PartitionsAway(answers.away)
        found: dict[str, _Found] = dict.fromkeys(record.devices, (None, None))
        for partition, rows in answers.found:
            for name, row in zip(parts[partition], rows, strict=True):
                found[name] = outcome_of(row, record.id, record.issued_by, record.fields["name"])
        return found


def _left_out(candidates: Sequence[Candidate]) -> list[OddLock]:
    return [one for one in map(Candidate.left_out, candidates) if one is not None]
