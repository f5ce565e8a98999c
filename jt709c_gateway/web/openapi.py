"""Describes the API as OpenAPI 3.1, from its routes and the types of its answers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc, getdoc
from typing import Any, Final

import msgspec

from jt709c_gateway.web.event_types import SCHEMAS, event_types
from jt709c_gateway.web.http import ErrorAnswer
from jt709c_gateway.web.query import Parameter
from jt709c_gateway.web.roles import Right, Role
from jt709c_gateway.web.router import BASE, Result, Route
from jt709c_gateway.web.sse import EVENT_STREAM

#: Name, description and header of each answer to a request that failed.
_ERRORS: Final[Mapping[int, tuple[str, str, str | None]]] = {
    400: ("BadRequest", "A parameter is wrong or unknown.", None),
    401: ("Unauthorized", "There are users, and this is none of them.", "www-authenticate"),
    403: ("Forbidden", "Not from this host or site, or not by this user: see docs/web.rst.", None),
    404: ("NotFound", "It is not known.", None),
    409: ("Conflict", "The id is that of another command, or of another user's.", None),
    413: ("TooLarge", "The body is too long.", None),
    415: ("Unsupported", "The body is not JSON.", None),
    429: ("TooMany", "Too many wrong passwords.", "retry-after"),
    502: ("Refused", "Redis refused what was asked of it; the gateway's log has more.", None),
    503: ("Unavailable", "Redis is away, or there are too many clients.", "retry-after"),
}
#: The least role with each right.
_ROLES: Final[Mapping[Right, Role | None]] = {
    Right.READ: None,
    Right.COMMAND: Role.DISPATCHER,
    Right.ADMIN: Role.ADMIN,
}
_ALWAYS: Final = (400, 401, 403, 429, 502, 503)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Build the description of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jt709c-gateway",
            "version": "1",
            "summary": "Locks, their events and commands, as the status page shows them",
            "description": "Behind --http of the gateway (docs/web.rst). An error is one line with the "
            "expected value. Answers may get further fields.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": BASE}],
        "security": [{"basic": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "With --web-users FILE."}
            },
            "schemas": _schemas(routes),
            "responses": {
                name: _response(Result(ErrorAnswer, description, [header] if header else []))
                for name, description, header in _ERRORS.values()
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    summary, _, description = (getdoc(route.handler) or "").partition("\n\n")
    summary = summary.partition(": ")[2].rstrip(".")
    operation: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", route.path),
        "summary": summary[:1].upper() + summary[1:],
    }
    role = _ROLES[route.right]
    if role is not None:
        operation["x-required-role"] = role
        more = "" if role is Role.ADMIN else f" or `{Role.ADMIN}`"
        description = f"{description} For users with the role `{role}`{more}."
    if description:
        operation["description"] = " ".join(description.split())
    if route.parameters:
        operation["parameters"] = [_parameter(one) for one in route.parameters]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    errors = {*_ALWAYS, *route.errors}
    errors |= {404} if "{" in route.path and not route.creates else set()
    errors |= set() if route.body is None else {413, 415}
    operation["responses"] = {
        **{str(status): _response(result) for status, result in route.results.items()},
        **{str(one): {"$ref": f"#/components/responses/{_ERRORS[one][0]}"} for one in sorted(errors)},
    }
    return operation


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    schema = parameter.schema
    if parameter.repeatable:
        schema = {"type": "array", "items": schema}
    found: dict[str, Any] = {"name": parameter.name, "in": parameter.place, "schema": schema}
    if parameter.description:
        found["description"] = parameter.description
    if parameter.required:
        found["required"] = True
    return found


def _response(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {"description": result.description}
    if result.type is None:
        found["content"] = {EVENT_STREAM.partition(";")[0]: {"schema": {"type": "string"}}}
    else:
        found["content"] = _json(result.type)
    for media in result.others:
        found["content"][media.partition(";")[0]] = {"schema": {"type": "string"}}
    if result.headers:
        found["headers"] = {name: {"schema": {"type": "string"}} for name in result.headers}
    return found


def _json(type_: Any) -> dict[str, Any]:
    schema = {"type": "object"} if type_ is dict else {"$ref": f"{SCHEMAS}{type_.__name__}"}
    return {"application/json": {"schema": schema}}


def _types(routes: Iterable[Route]) -> set[Any]:
    found = {ErrorAnswer}
    for route in routes:
        found.update(result.type for result in route.results.values())
        found.add(route.body)
    return found - {None, dict}


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    types = sorted(_types(routes), key=lambda one: str(one.__name__))
    [event, *_], schemas = msgspec.json.schema_components(
        [event_types(), *types], ref_template=SCHEMAS + "{name}"
    )
    schemas["Event"] = {"description": "An event as it is published in Redis (docs/redis.rst).", **event}
    for schema in schemas.values():
        if "description" in schema:
            # A docstring, which has Python's word for null.
            schema["description"] = re.sub(r"\bNone\b", "null", cleandoc(schema["description"]))
    return dict(sorted(schemas.items()))
