"""The OpenAPI 3.1 document, made of the routes and of the types that requests are decoded by."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from safelight import __version__
from safelight.server.job_api.messages import NewJob, Problem
from safelight.server.job_api.problem import CONTENT_TYPE as PROBLEM
from safelight.server.job_api.reading import JSON, LINES, MAX_BODY_BYTES, MAX_JOBS
from safelight.server.job_api.routes import STREAM, Route, Says

Json = dict[str, Any]
_REFERENCE = "#/components/schemas/{name}"
_TOKEN = "token"  # noqa: S105 (a name)


def openapi(routes: Sequence[Route], *, needs_token: bool) -> Json:
    """The document."""
    kinds = [NewJob, Problem, *_kinds(routes)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = dict(zip(kinds, schemas, strict=True))
    parameters = _inlined({route.query for route in routes if route.query is not None})
    paths: dict[str, Json] = {}
    for route in routes:
        operation = _operation(route, by_kind, parameters)
        if needs_token and route.needs_token:
            operation["security"] = [{_TOKEN: list[str]()}]
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Safelight image jobs",
            "version": __version__,
            "description": "Fetch an image from a URL, make others of it, deliver them to URLs.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(routes: Sequence[Route]) -> Iterator[type[Struct]]:
    for route in routes:
        for said in route.says.values():
            yield from said.kinds


def _inlined(kinds: set[type[Struct]]) -> dict[type[Struct], Json]:
    """Schemas of the fields of query types: parameters are listed one by one."""
    found: dict[type[Struct], Json] = {}
    for kind in kinds:
        _, components = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
        found[kind] = components[kind.__name__]["properties"]
    return found


def _operation(route: Route, by_kind: dict[type[Struct], Json], queries: dict[type[Struct], Json]) -> Json:
    operation: Json = {"operationId": route.name, "summary": route.help}
    parameters = [_parameter("path", route.variable, {"type": "string"})] if route.variable else []
    if route.query is not None:
        parameters += [_parameter("query", name, schema) for name, schema in queries[route.query].items()]
    if parameters:
        operation["parameters"] = parameters
    if route.takes_jobs:
        operation["requestBody"] = _job_body(by_kind[NewJob])
    operation["responses"] = {
        **{str(int(status)): _response(said, by_kind) for status, said in route.says.items()},
        **{str(int(status)): _refusal(status, by_kind[Problem]) for status in route.refuses},
        "default": {"description": "Any other error", "content": {PROBLEM: {"schema": by_kind[Problem]}}},
    }
    return operation


def _parameter(place: str, name: str, schema: Json) -> Json:
    """None stands for a parameter that is missing: nobody can send it."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema = {
            **{key: what for key, what in schema.items() if key not in ("anyOf", "default")},
            **kinds[0],
        }
    described = {key: text for key, text in schema.items() if key == "description"}
    return {"name": name, "in": place, "required": place == "path", **described, "schema": schema}


def _job_body(job: Json) -> Json:
    several = {"type": "array", "items": job, "minItems": 1, "maxItems": MAX_JOBS}
    return {
        "required": True,
        "description": f"One job, or up to {MAX_JOBS} and {MAX_BODY_BYTES} bytes: all are accepted or none.",
        "content": {
            JSON: {"schema": {"oneOf": [job, several]}},
            LINES: {"schema": {"type": "string", "description": "A job a line."}},
        },
    }


def _response(said: Says, by_kind: dict[type[Struct], Json]) -> Json:
    response: Json = {"description": said.meaning}
    if said.is_stream:
        response["content"] = {STREAM: {"schema": {"type": "string"}}}
    elif said.kinds:
        schemas = [by_kind[kind] for kind in said.kinds]
        response["content"] = {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}}
    return response


def _refusal(status: int, problem: Json) -> Json:
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM: {"schema": problem}}}
