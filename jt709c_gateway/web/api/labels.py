"""Serves and writes the labels of devices: what people call them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from attrs import define
from msgspec import UNSET, UnsetType
from twisted.logger import Logger

from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.redis.label_file import (
    COLUMNS,
    LabelFileError,
    LabelRow,
    read_csv,
    read_objects,
    resolved,
)
from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.redis.labels import LABEL_FIELDS, Label, LabelError, Labels, read_label
from jt709c_gateway.web import query as read
from jt709c_gateway.web.api.command_requests import REQUESTED_WITH_HEADER, check_same_site
from jt709c_gateway.web.api.devices import unknown_device
from jt709c_gateway.web.device_table import MAX_DEVICES, DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, SharedResponse, json_response
from jt709c_gateway.web.label_changes import LabelledDevice
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition, side_by_side
from jt709c_gateway.web.router import Result, Route

_LABELS: Final = read.limit_parameter(MAX_DEVICES, 1000)
_AFTER: Final = read.Parameter("cursor", read.device, "`next` of an earlier answer.")


class LabelPage(msgspec.Struct):
    """Labels by device id; `next` is the cursor of the next page, None at the end.

    `total` is the number of all labels that match. `partitions_away` has the numbers of the partitions whose
    labels are missing.
    """

    labels: list[LabelledDevice]
    next: str | None
    total: int
    partitions_away: list[int] | UnsetType = UNSET


class ImportedLabel(msgspec.Struct):
    """Fields to write; `device` is a device id or an IMEI. A field that is not given stays as it is.

    An empty text, or null, removes a field.
    """

    device: str
    name: str | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    plate: str | UnsetType | None = UNSET
    note: str | UnsetType | None = UNSET


class LabelImport(msgspec.Struct, omit_defaults=True):
    """Labels in bulk: either `labels`, or `csv`, a text whose first line has the names of the columns."""

    labels: list[ImportedLabel] | UnsetType = UNSET
    csv: str | UnsetType = UNSET


class ImportResult(msgspec.Struct):
    """How many labels an import has changed, and how many were so before."""

    changed: int
    unchanged: int


@define(eq=False)
class LabelsApi:
    """Handlers that read and write labels."""

    log = Logger()

    web: PartitionedWebRedis
    fleet: DeviceTable
    shared: SharedResponse

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        one = {200: Result(LabelledDevice)}
        path, from_page = read.DEVICE_IN_PATH, REQUESTED_WITH_HEADER
        search = (read.GROUP, read.TEXT, _LABELS, _AFTER)
        return [
            Route("GET", "/labels", self.labels, {200: Result(LabelPage)}, search),
            Route(
                "POST",
                "/labels",
                self.import_labels,
                {200: Result(ImportResult)},
                (from_page,),
                body=LabelImport,
            ),
            Route("GET", "/devices/{id}/label", self.label, one, (path,)),
            Route("PUT", "/devices/{id}/label", self.set_label, one, (path, from_page), body=Label),
            Route("DELETE", "/devices/{id}/label", self.remove_label, one, (path, from_page)),
        ]

    async def labels(self, request: ApiRequest) -> Response:
        """GET /labels: the labels of all locks, also of those that have not reported yet.

        With `group` those of a group, with `text` those in which it is found. The answer may be a second old.
        """
        wanted = LabelSearch(request.params(read.GROUP), request.params(read.TEXT))
        limit: int = request.param(_LABELS)
        after: str | None = request.param(_AFTER)

        async def make() -> Response:
            return json_response(await self._page(wanted, limit, after))

        return await self.shared.get((wanted, limit, after), make)

    async def _page(self, wanted: LabelSearch, limit: int, after: str | None) -> LabelPage:
        answers = await side_by_side(self.web.partitions, lambda one: _labels(one).all())
        found = sorted(
            (
                LabelledDevice(device, label)
                for some in answers.values()
                for device, label in some.items()
                if wanted.fits(label, device)
            ),
            key=lambda one: _order(one.device),
        )
        rest = [one for one in found if after is None or _order(one.device) > _order(after)]
        following = rest[limit - 1].device if len(rest) > limit else None
        return LabelPage(rest[:limit], following, len(found), list(answers.away) or UNSET)

    async def label(self, request: ApiRequest) -> Response:
        """GET /devices/{id}/label: the label of a lock."""
        device = await self._device(request)
        [label] = await _labels(self.web.of(device)).read([device])
        return json_response(LabelledDevice(device, label or UNSET))

    async def set_label(self, request: ApiRequest) -> Response:
        """PUT /devices/{id}/label: give a lock a label in place of the one it has.

        As an admin. Fields that are not given are removed. A lock that has not
        reported yet is a 404; `POST /labels` takes it.
        """
        user = self._admit(request)
        try:
            label = read_label(request.json_object())
        except LabelError as error:
            raise ApiError(400, str(error), error.field if error.field in LABEL_FIELDS else None) from None
        if not label:
            right = f"expected at least one of {', '.join(LABEL_FIELDS)}; DELETE removes a label"
            raise ApiError(400, f"the label is empty: {right}")
        device = await self._device(request)
        await _labels(self.web.of(device)).write({device: label})
        self.log.info("label of {device} written by web:{user}", device=device, user=user)
        return json_response(LabelledDevice(device, label))

    async def remove_label(self, request: ApiRequest) -> Response:
        """DELETE /devices/{id}/label: remove the label of a lock.

        As an admin.
        """
        user = self._admit(request)
        device = await self._device(request)
        await _labels(self.web.of(device)).remove(device)
        self.log.info("label of {device} removed by web:{user}", device=device, user=user)
        return json_response(LabelledDevice(device))

    async def import_labels(self, request: ApiRequest) -> Response:
        """POST /labels: write many labels.

        As an admin. All rows are checked before any is written: with a mistake
        in one, none is, and the error names its row, or its line of `csv`, and its column. A body has at most
        64 KB; `jt709c label import` takes any file.
        """
        user = self._admit(request)
        rows = _rows(request.json_object())
        aliases = await self.web.queries.each([row.device for row in rows], self._imeis)
        try:
            changes = resolved(rows, aliases)
        except LabelFileError as error:
            raise ApiError(400, str(error)) from None
        parts: defaultdict[WebPartition, dict[str, dict[str, str]]] = defaultdict(dict)
        for device, fields in changes.items():
            parts[self.web.of(device)][device] = fields
        for one in parts:
            # Nothing is written unless all partitions answer.
            await one.redis.call("PING")
        changed = 0
        for one, some in parts.items():
            changed += len(await _labels(one).change(some))
        self.log.info("{count} labels changed by web:{user}", count=changed, user=user)
        return json_response(ImportResult(changed, len(changes) - changed))

    async def _imeis(self, number: int, names: list[str]) -> list[str]:
        one = self.web.partitions[number]
        return await _labels(one).devices_of(names)

    async def _device(self, request: ApiRequest) -> str:
        """Resolve the device in the path; one that has never reported must have a label."""
        device = await self.fleet.resolve(request.path_param(read.DEVICE_IN_PATH))
        one = self.web.of(device)
        keys = one.keys
        if not await one.redis.call("EXISTS", keys.device(device), keys.history(device), keys.label(device)):
            raise unknown_device()
        return device

    def _admit(self, request: ApiRequest) -> str:
        """Return the name of the user; raise :class:`ApiError` for a request from another site."""
        check_same_site(request.twisted_request)
        # Without a user these routes are refused.
        assert request.user is not None
        return request.user.name


def _labels(partition: WebPartition) -> Labels:
    return Labels(partition.redis, partition.keys)


def _order(device: str) -> tuple[int, str]:
    return len(device), device


def _rows(body: dict[str, Any]) -> list[LabelRow]:
    names = LabelImport.__struct_fields__
    if unknown := unknown_names(body, names, "field"):
        raise ApiError(400, f"unknown {unknown}: expected {' or '.join(names)}")
    given = [name for name in names if body.get(name) is not None]
    if len(given) != 1:
        raise ApiError(400, "expected either labels or csv")
    [name], value = given, body[given[0]]
    try:
        if name == "csv" and isinstance(value, str):
            return read_csv(value.encode("utf-8", "surrogatepass"))
        if name == "labels" and isinstance(value, list) and all(isinstance(one, dict) for one in value):
            return read_objects(value)
    except LabelFileError as error:
        raise ApiError(400, f"{name}: {error}", name) from None
    right = "text" if name == "csv" else f"a list of objects with {', '.join(COLUMNS)}"
    raise ApiError(400, f"{name}: expected {right}", name)
