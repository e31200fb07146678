"""The OpenAPI document is that of the very server which serves it."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from job_api_support import HERE, Api, JobServer, allowed, api_client, job_server, new_job
from openapi_spec_validator import validate
from serving import ROOT

GUIDE = (ROOT / "docs" / "jobs.md").read_text()
JOB = new_job("http://127.0.0.1/a.png", "http://127.0.0.1/b.png", batch="b")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    with job_server(tmp_path_factory.mktemp("document") / "server", configuration=allowed(*HERE)) as made:
        yield made


@pytest.fixture
async def api(server: JobServer) -> AsyncIterator[Api]:
    async with api_client(server) as made:
        yield made


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    answer: dict[str, Any] = await api.ask("GET", "/openapi.json", 200)
    return answer


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def test_it_is_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_its_paths(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {path: sorted(operations) for path, operations in document["paths"].items()} == {
        "/jobs": ["get", "post"],
        "/jobs/retry": ["post"],
        "/jobs/{id}": ["delete", "get"],
        "/jobs/{id}/retry": ["post"],
        "/jobs/{id}/events": ["get"],
        "/batches/{name}": ["get"],
        "/batches/{name}/events": ["get"],
        "/openapi.json": ["get"],
    }


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    schemas = document["components"]["schemas"]
    assert found == {f"#/components/schemas/{name}" for name in schemas}


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


async def test_answers_have_the_fields_that_it_says(api: Api, document: dict[str, Any]) -> None:
    """Each kind of answer, and of each its status."""
    job = await api.submit(JOB)
    for method, path, template, status in (
        ("GET", "/jobs", "/jobs", 200),
        ("GET", f"/jobs/{job['id']}", "/jobs/{id}", 200),
        ("DELETE", f"/jobs/{job['id']}", "/jobs/{id}", 200),
        ("POST", f"/jobs/{job['id']}/retry", "/jobs/{id}/retry", 409),
        ("POST", "/jobs/retry?batch=none", "/jobs/retry", 200),
        ("GET", "/batches/b", "/batches/{name}", 200),
        ("GET", "/batches/none", "/batches/{name}", 404),
        ("GET", "/jobs?limit=0", "/jobs", 400),
        ("PUT", "/jobs", "/jobs", 415),
    ):
        if method == "PUT":
            method, body = "POST", "text"
        else:
            body = ""
        answer = await api.ask(method, path, status, content=body)
        said = document["paths"][template][method.lower()]["responses"][str(status)]["content"]
        ((kind, content),) = said.items()
        assert kind == ("application/json" if status < 400 else "application/problem+json")
        schema = resolved(document, content["schema"])
        assert set(answer) == set(schema["properties"])
        assert set(schema["required"]) <= set(answer)


async def test_what_it_requires_is_required(api: Api, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["NewJob"]
    assert schema["required"] == ["source", "outputs"]
    assert schema["additionalProperties"] is False
    for name in schema["required"]:
        problem = await api.ask("POST", "/jobs", 400, json={key: JOB[key] for key in JOB if key != name})
        assert f"`{name}`" in problem["errors"][0]["message"]
    priority = schema["properties"]["priority"]
    for number in (priority["minimum"] - 1, priority["maximum"] + 1):
        await api.ask("POST", "/jobs", 400, json={**JOB, "priority": number})
    most = schema["properties"]["outputs"]["maxItems"]
    await api.ask("POST", "/jobs", 400, json={**JOB, "outputs": JOB["outputs"] * (most + 1)})


async def test_its_parameters_are_those_that_are_known(api: Api, document: dict[str, Any]) -> None:
    examples = {
        "state": "dead", "batch": "b", "host": "h", "created_from": "2026-01-01T00:00:00Z",
        "created_before": "2026-01-01T00:00:00+01:00", "limit": "7", "cursor": "1",
    }  # fmt: skip
    listed = document["paths"]["/jobs"]["get"]["parameters"]
    assert {parameter["name"] for parameter in listed} == set(examples)
    assert not any(parameter["required"] for parameter in listed)
    await api.ask("GET", "/jobs", 200, params=examples)
    retried = [parameter["name"] for parameter in document["paths"]["/jobs/retry"]["post"]["parameters"]]
    await api.ask("POST", "/jobs/retry", 200, params={name: examples[name] for name in retried})


async def test_it_says_whether_a_token_is_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("guarded") / "server"
    with job_server(place, configuration=allowed('token "0123456789-abcdef"')) as server:
        async with api_client(server) as api:
            guarded = await api.ask("GET", "/openapi.json", 200)
    paths = guarded["paths"]
    assert paths["/jobs"]["post"]["security"] == [{"token": []}]
    assert "security" not in paths["/openapi.json"]["get"]
    assert guarded["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


# --- the guide


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


async def test_the_jobs_of_the_guide_are_accepted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By a server with the first configuration of the guide, and with its token."""
    configuration, *_ = examples("sdl")
    (token,) = set(re.findall(r"Bearer ([\w-]+)'", GUIDE))
    commands = re.findall(r"/jobs .*? -d '(.*?)'$", GUIDE, re.MULTILINE | re.DOTALL)
    found = [json.loads(text) for text in (*examples("json"), *commands)]
    jobs = [example for example in found if "source" in example]
    assert len(jobs) == 2
    with job_server(tmp_path_factory.mktemp("guide") / "server", configuration=configuration) as server:
        async with api_client(server, token) as api:
            assert len(await api.submit_all(jobs)) == 2


def test_the_guide_shows_every_route_and_field(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        shown = path.replace("{id}", "ID").replace("{name}", "NAME")
        for method in operations:
            assert f"`{method.upper()} {shown}`" in GUIDE
    schemas = document["components"]["schemas"]
    for name in ("NewJob", "Thumbnail", "Delivery", "Form", "JobView", "BatchView", "Problem"):
        for field in schemas[name]["properties"]:
            assert f"`{field}`" in GUIDE or f'"{field}"' in GUIDE
    for parameter in document["paths"]["/jobs"]["get"]["parameters"]:
        assert f"`{parameter['name']}`" in GUIDE
