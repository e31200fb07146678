"""What the API accepts and what it refuses: a 4xx that points at what is wrong, whatever was sent."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_api_support import PROBLEM, Api, JobServer, allowed, api_client, job_server, new_job
from job_support import until

HOME = "127.0.0.1"
GOOD = new_job("http://127.0.0.1/a.png", "http://127.0.0.1/b.png")
JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
DEEP = 200_000
NOBODY = "01a2024d-a397-74a6-a2d4-d3004d08cb94"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """One that may do something, but does little: nothing listens where its jobs fetch."""
    lines = (
        'source "127.0.0.1"',
        'source "https://*.example.com:8443/in"',
        'source "*.pub.example"',
        'source_root "/nowhere/in"',
        'destination "127.0.0.1"',
        'destination "https://here.example/up"',
        'destination_root "/nowhere/out"',
        'webhook "https://hooks.example/in"',
    )
    configuration = allowed(*lines).replace("jobs", 'jobs webhook-secret="0123456789abcdef"')
    with job_server(tmp_path_factory.mktemp("requests") / "server", configuration=configuration) as made:
        yield made


@pytest.fixture
async def api(server: JobServer) -> AsyncIterator[Api]:
    async with api_client(server) as made:
        yield made


@pytest.fixture
async def crowded_api(tmp_path: Path) -> AsyncIterator[Api]:
    """Of a server of its own: nobody else has to wait behind thousands of jobs."""
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", configuration=configuration) as server:
        async with api_client(server) as made:
            yield made


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as made:
        yield made


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def output(make: Any = "fit,1,1,png", to: Any = "http://127.0.0.1/b.png", **rest: Any) -> dict[str, Any]:
    return changed(outputs=[{"make": make, "to": to, **rest}])


def made(**fields: Any) -> dict[str, Any]:
    return output({"method": "fit", "format": "png", **fields})


async def refused(api: Api, body: Any, status: int = 400, headers: dict[str, str] | None = None) -> Any:
    """The problem; nothing of it was accepted."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    problem = await api.ask("POST", "/jobs", status, content=content, headers=headers or JSON)
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    return problem["errors"]


async def only_fault(api: Api, body: Any, status: int = 400, headers: dict[str, str] | None = None) -> Any:
    (fault,) = await refused(api, body, status, headers)
    return fault["where"], fault["message"]


# --- what is accepted


async def test_the_answer_to_one_job(api: Api) -> None:
    job = changed(priority=-100, key=f"k {uuid4()}", batch="b 1", webhook="https://hooks.example/in?x")
    answer = await api.client.post("/jobs", json=job)
    view = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{view['id']}"
    assert list(view) == [
        "id", "state", "created_at", "ended_at", "attempts", "reason", "source", "outputs", "priority",
        "batch", "key", "not_before",
    ]  # fmt: skip
    assert (view["priority"], view["key"], view["batch"]) == (-100, job["key"], "b 1")
    assert view["created_at"].endswith("Z")
    shown = await api.client.get(answer.headers["location"])
    assert shown.json()["id"] == view["id"]


async def test_the_answer_to_several_is_their_ids_in_sequence(api: Api) -> None:
    jobs = [changed(batch=f"batch {number} {uuid4()}") for number in range(30)]
    ids = await api.submit_all(jobs)
    assert [(await api.view(job_id))["batch"] for job_id in ids] == [job["batch"] for job in jobs]
    assert len(await api.submit_all([GOOD])) == 1, "an array of one is several"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n  \n"])
async def test_jobs_by_lines(api: Api, end: str) -> None:
    jobs = [changed(batch=f"é{number}") for number in range(3)]
    text = "\n".join(json.dumps(job, ensure_ascii=False) for job in jobs) + end
    answer = await api.ask("POST", "/jobs", 202, content=text.encode(), headers=LINES)
    assert [(await api.view(job_id))["batch"] for job_id in answer["ids"]] == ["é0", "é1", "é2"]


async def test_ten_thousand_jobs_at_once_and_not_one_more(crowded_api: Api) -> None:
    """The limit on bytes is not in the way, and other requests are answered meanwhile."""
    batch = uuid4().hex
    jobs = [
        changed(outputs=GOOD["outputs"] * 3, batch=batch, source=f"http://127.0.0.1/{number}")
        for number in range(10_000)
    ]
    body = json.dumps(jobs).encode()
    submitted = asyncio.create_task(
        crowded_api.ask(
            "POST", "/jobs", 202, content=body, headers={"content-type": "application/json; charset=utf-8"}
        )
    )
    while not submitted.done():
        await crowded_api.ask("GET", "/jobs", 200, params={"limit": 1})
    ids = (await submitted)["ids"]
    assert len(set(ids)) == 10_000
    assert (await crowded_api.ask("GET", f"/batches/{batch}", 200))["total"] == 10_000
    assert (await crowded_api.view(ids[-1]))["source"] == "http://127.0.0.1/9999"
    assert await only_fault(crowded_api, [*jobs, GOOD], 413) == ("body", "more than 10000 jobs")
    lines = b"\n".join([json.dumps(GOOD).encode()] * 10_001)
    assert await only_fault(crowded_api, lines, 413, LINES) == ("body", "more than 10000 jobs")
    assert (await crowded_api.ask("GET", f"/batches/{batch}", 200))["total"] == 10_000
    spaced = b"\n\n \n".join([json.dumps(GOOD).encode()] * 10_000)
    assert len((await crowded_api.ask("POST", "/jobs", 202, content=spaced, headers=LINES))["ids"]) == 10_000


async def test_all_are_accepted_or_none(api: Api) -> None:
    batch = uuid4().hex
    good = changed(batch=batch)
    faults = await refused(api, [good, {**good, "outputs": [{"make": "fit", "to": "x"}]}, good])
    assert [fault["where"] for fault in faults] == ["jobs[1].outputs[0].make", "jobs[1].outputs[0].to"]
    await api.ask("GET", f"/batches/{batch}", 404)


@pytest.mark.parametrize(
    "job",
    [
        changed(source="http://127.0.0.1:1/%zz?q=1#f"),
        changed(source="https://a.example.com:8443/in/b"),
        changed(source="ftp://user:password@127.0.0.1/a"),
        changed(source="http://any.pub.example/"),
        changed(source="file:///nowhere/in/a b.png"),
        output(to="https://here.example/up"),
        output(to={"url": "https://here.example/up/x", "form": {"field": "f", "file_name": "g.png"}}),
        output(to={"url": "http://127.0.0.1/b", "form": None}),
        output(to="file:///nowhere/out/sub/a.png"),
        output("fit,input,input,jpeg,quality:84!rotate,90!crop,0,0,0.5,0.5"),
        made(width=1, height=999_999_999, options={"quality": 84, "x": 0.5, "y": "z:w"}, edits=[]),
        made(width=None, edits=["rotate,90", "blur,0.1,0.2,0.1,0.1,0.5,background-color:red"]),
        changed(outputs=GOOD["outputs"] * 64),
        changed(key=None, batch=None, webhook=None, priority=100),
        changed(key="k" * 200, batch="\N{SNOWMAN}" * 200),
    ],
)
async def test_jobs_that_are_accepted(api: Api, job: dict[str, Any]) -> None:
    await api.submit({**job, "key": f"{job.get('key') or ''}{uuid4()}"[-200:]})


# --- what is refused


@pytest.mark.parametrize(
    ("job", "where", "message"),
    [
        ({}, "", "missing required field `source`"),
        ({"source": "http://127.0.0.1"}, "", "missing required field `outputs`"),
        (changed(sources=1), "", "unknown field `sources`"),
        (changed(legacy=True), "", "unknown field `legacy`"),
        (changed(notice={}), "", "unknown field `notice`"),
        (changed(source=""), ".source", "length >= 1"),
        (changed(source="h" * 8193), ".source", "length <= 8192"),
        (changed(source=None), ".source", "got `null`"),
        (changed(source="a.png"), ".source", "no scheme"),
        (changed(source="gopher://a"), ".source", "a scheme other than"),
        (changed(source="http://"), ".source", "no valid host"),
        (changed(source="http://a:99999/"), ".source", "no valid host or port"),
        (changed(source="http://[::1/"), ".source", "no valid host"),
        (changed(source="http://127.0.0.1/\r\nX: y"), ".source", "control character"),
        (changed(source="ftp://127.0.0.1/%0d%0aDELE"), ".source", "control character"),
        (changed(outputs=[]), ".outputs", "length >= 1"),
        (changed(outputs=GOOD["outputs"] * 65), ".outputs", "length <= 64"),
        (changed(outputs={"0": 1}), ".outputs", "Expected `array`"),
        (changed(outputs=[1]), ".outputs[0]", "Expected `object`"),
        (changed(outputs=[{"make": "fit,1,1,png"}]), ".outputs[0]", "missing required field `to`"),
        (output(form=1), ".outputs[0]", "unknown field `form`"),
        (output(7), ".outputs[0].make", "Expected `str | object`"),
        (output(""), ".outputs[0].make", "length >= 1"),
        (output("fit"), ".outputs[0].make", "missing width"),
        (output("fit,1,1,bogus"), ".outputs[0].make", "unknown format: BOGUS"),
        (output("fit,1,1,png,speed:slow"), ".outputs[0].make", "unknown speed: slow"),
        (output("fit,0,1,png"), ".outputs[0].make", "dimension is zero"),
        (output("fit,a,1,png"), ".outputs[0].make", "width value 'a'"),
        (output("fit,1,1,png,quality"), ".outputs[0].make", "missing option value"),
        (output("fit,1,1,png!,1"), ".outputs[0].make", "missing edit name"),
        (output("fit,1,1,png" + "!rotate,90" * 65), ".outputs[0].make", "too many edits"),
        (output("fit,1,1,png\n"), ".outputs[0].make", "control characters"),
        (output({"method": "fit"}), ".outputs[0].make", "missing required field `format`"),
        (made(width=0), ".outputs[0].make.width", "`int` >= 1"),
        (made(width=1.5), ".outputs[0].make.width", "Expected `int | null`"),
        (made(width="input"), ".outputs[0].make.width", "Expected `int | null`"),
        (made(width=10**9), ".outputs[0].make", "too large"),
        (made(depth=1), ".outputs[0].make", "unknown field `depth`"),
        (made(method="fit,1"), ".outputs[0].make", "a separator"),
        (made(format="png,quality:5"), ".outputs[0].make", "a separator"),
        (made(options={"quality": "5,x:y"}), ".outputs[0].make", "a separator"),
        (made(options={"a:b": "c"}), ".outputs[0].make", "a separator"),
        (made(options={"a": "b!rotate,90"}), ".outputs[0].make", "a separator"),
        (made(options={"a": True}), ".outputs[0].make.options[...]", "got `bool`"),
        (made(options={"": "x"}), ".outputs[0].make.options", "length >= 1"),
        (made(options={str(n): 1 for n in range(65)}), ".outputs[0].make.options", "length <= 64"),
        (made(edits=["rotate,90!blur"]), ".outputs[0].make", "a separator"),
        (made(edits=[""]), ".outputs[0].make.edits[0]", "length >= 1"),
        (made(edits=["rotate,90"] * 65), ".outputs[0].make", "too many edits"),
        (output(to=7), ".outputs[0].to", "Expected `str | object`"),
        (output(to="relative/path"), ".outputs[0].to", "no scheme"),
        (output(to={"url": "http://127.0.0.1/", "from": 1}), ".outputs[0].to", "unknown field `from`"),
        (output(to={"form": {"field": "a", "file_name": "b"}}), ".outputs[0].to", "required field `url`"),
        (output(to={"url": "http://127.0.0.1", "form": {"field": "a"}}), ".outputs[0].to.form", "file_name"),
        (
            output(to={"url": "http://127.0.0.1", "form": {"field": "a", "file_name": "../b"}}),
            ".outputs[0].to",
            "not allowed",
        ),
        (
            output(to={"url": "ftp://127.0.0.1/a", "form": {"field": "a", "file_name": "b"}}),
            ".outputs[0].to",
            "over HTTP",
        ),
        (changed(priority=101), ".priority", "`int` <= 100"),
        (changed(priority=-101), ".priority", "`int` >= -100"),
        (changed(priority=1.0), ".priority", "Expected `int`"),
        (changed(priority=True), ".priority", "Expected `int`"),
        (changed(priority=10**400), ".priority", ""),
        (changed(key=""), ".key", "length >= 1"),
        (changed(key="k" * 201), ".key", "length <= 200"),
        (changed(key="a\0b"), ".key", "control characters"),
        (changed(batch="a\nb"), ".batch", "control characters"),
        (changed(batch=["a"]), ".batch", "Expected `str | null`"),
        (changed(webhook="ftp://hooks.example/in"), ".webhook", "over HTTP"),
        (changed(webhook="hooks.example"), ".webhook", "no scheme"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_pointed_at(api: Api, job: Any, where: str, message: str) -> None:
    """The same in every form of sending it."""
    for body, number, headers in (
        (json.dumps(job), 0, JSON),
        (json.dumps([GOOD, job]), 1, JSON),
        (f"{json.dumps(GOOD)}\n{json.dumps(job)}\n", 1, LINES),
    ):
        place, told = await only_fault(api, body.encode(), headers=headers)
        assert place == f"jobs[{number}]{where}"
        assert message in told


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (changed(source="http://other.example/a.png"), ".source"),
        (changed(source="https://a.example.com/in/b"), ".source"),
        (changed(source="https://a.example.com:8443/in/../b"), ".source"),
        (changed(source="http://10.0.0.1/"), ".source"),
        (changed(source="file:///nowhere/in/../x"), ".source"),
        (changed(source="file:///etc/passwd"), ".source"),
        (changed(source="s3://bucket/key"), ".source"),
        (output(to="http://other.example/"), ".outputs[0].to"),
        (output(to="https://here.example/down"), ".outputs[0].to"),
        (output(to="file:///nowhere/out"), ".outputs[0].to"),
        (output(to="file:///nowhere/in/a"), ".outputs[0].to"),
        (output(to="s3://bucket/key"), ".outputs[0].to"),
        (changed(webhook="https://other.example/in"), ".webhook"),
        (changed(webhook="https://hooks.example/out"), ".webhook"),
        (changed(webhook="http://127.0.0.1/"), ".webhook"),
    ],
)
async def test_what_the_configuration_does_not_allow_is_forbidden(api: Api, job: Any, where: str) -> None:
    place, _ = await only_fault(api, job, 403)
    assert place == f"jobs[0]{where}"


async def test_an_address_that_is_not_public_is_refused_at_once(tmp_path_factory: Any) -> None:
    """Where any public address may be a source; a name is looked up only when the job is done."""
    configuration = allowed('destination "127.0.0.1"')
    place = tmp_path_factory.mktemp("public") / "server"
    with job_server(place, configuration=configuration) as server:
        async with api_client(server) as api:
            for host in ("127.0.0.1", "[::1]", "10.1.2.3", "[::ffff:10.1.2.3]", "169.254.169.254"):
                fault = await only_fault(api, changed(source=f"http://{host}/a.png"), 403)
                assert fault[0] == "jobs[0].source"
            await api.submit(changed(source="http://no.invalid/a.png"))


async def test_everything_wrong_is_told_up_to_a_hundred(api: Api) -> None:
    bad = changed(source="x", key="a\tb", batch="\x7f", webhook="y", outputs=[{"make": "fit", "to": "z"}] * 2)
    faults = await refused(api, [bad])
    assert [fault["where"].removeprefix("jobs[0].") for fault in faults] == [
        "source", "outputs[0].make", "outputs[0].to", "outputs[1].make", "outputs[1].to", "key", "batch",
        "webhook",
    ]  # fmt: skip
    assert len(await refused(api, [bad] * 50)) == 100
    mixed = changed(source="http://other.example/", webhook="y")
    assert len(await refused(api, mixed, 400)) == 2, "403 only where nothing else is wrong"


NESTED = '{"source":"http://127.0.0.1/","outputs":[{"make":{"method":"fit","format":"png","options":%s},"to":"http://127.0.0.1"}]}'


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"   ", "body"),
        (b"[]", "body"),
        (b"nonsense", "body"),
        (b"null", "jobs[0]"),
        (b"7", "jobs[0]"),
        (b'"text"', "jobs[0]"),
        (b"[[]]", "jobs[0]"),
        (b"[null]", "jobs[0]"),
        (b'{"source"', "body"),
        (b'[{"source": "http://127.0.0.1"', "body"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "body"),
        (json.dumps(GOOD).encode("utf-16"), "body"),
        (json.dumps(GOOD).encode() + b"x", "body"),
        (json.dumps(GOOD).encode() * 2, "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"key":"\\ud800"}', "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"key":"\xed\xa0\x80"}', "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"key":"\xff"}', "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"priority":1e400}', "jobs[0].priority"),
        (json.dumps(GOOD).encode()[:-1] + b',"priority":NaN}', "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"priority":-Infinity}', "body"),
        (json.dumps(GOOD).encode()[:-1] + b',"source":"http://127.0.0.1/"}', "jobs[0]"),
        (json.dumps(GOOD).encode()[:-1] + b',"priority":1,"priority":1}', "jobs[0]"),
        ((NESTED % '{"a":1,"a":1}').encode(), "jobs[0]"),
        ((NESTED % '{"a":1e400}').encode(), "jobs[0].outputs[0].make.options[...]"),
        ((NESTED % '{"a":"\\u0000"}').encode(), "jobs[0].outputs[0].make"),
        ((NESTED % ("[" * DEEP + "]" * DEEP)).encode(), "jobs[0].outputs[0].make.options"),
        ((NESTED % ('{"a":' * DEEP + "1" + "}" * DEEP)).encode(), "jobs[0].outputs[0].make.options[...]"),
        (b"[" * DEEP, "jobs[0]"),
        (b"[" * DEEP + b"]" * DEEP, "jobs[0]"),
        (b'{"a":' * DEEP, "jobs[0]"),
        (b"[" + b"1," * 4_000_000 + b"1]", "jobs[0]"),
        (b"[" + b"{}," * 4_000_000 + b"{}]", "jobs[0]"),
        ((NESTED % ("{" + '"a":1,' * 1_500_000 + '"a":1}')).encode(), "jobs[0]"),
        ((NESTED % ("{" + ",".join(f'"{n}":1' for n in range(600_000)) + "}")).encode(),
         "jobs[0].outputs[0].make.options"),
        (os.urandom(1 << 16), "body"),
        (bytes(1 << 16), "body"),
    ],
    ids=range(37),
)  # fmt: skip
async def test_hostile_bodies(api: Api, body: bytes, where: str) -> None:
    assert (await only_fault(api, body))[0] == where
    assert "Traceback" not in api.server.log


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"\n" * (15 << 20), "body"),
        (b"\n\n" + json.dumps(GOOD).encode() + b"\n[1]", "jobs[1]"),
        (json.dumps(GOOD).encode() + b"\n{", "jobs[1]"),
        (json.dumps(GOOD).encode() + b"\n" + b"[" * DEEP, "jobs[1]"),
        (json.dumps([GOOD]).encode(), "jobs[0]"),
    ],
    ids=range(6),
)
async def test_hostile_lines(api: Api, body: bytes, where: str) -> None:
    assert (await only_fault(api, body, headers=LINES))[0] == where


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_more_than_sixteen_mebibytes(api: Api, is_chunked: bool) -> None:
    """Announced or not; exactly as many are read."""
    largest = json.dumps(GOOD).encode().ljust(16 << 20)
    assert (await api.ask("POST", "/jobs", 202, content=largest, headers=JSON))["id"]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(largest), 1 << 20):
            yield largest[start : start + (1 << 20)]
        yield b" "

    content: Any = pieces() if is_chunked else largest + b" "
    problem = await api.ask("POST", "/jobs", 413, content=content, headers=JSON)
    assert problem["errors"] == [{"where": "body", "message": "more than 16777216 bytes"}]


async def test_a_body_beyond_the_limit_of_the_server_is_a_problem_as_well(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(130):
            yield b" " * (1 << 20)

    problem = await api.ask("POST", "/jobs", 413, content=pieces(), headers=JSON)
    assert problem["detail"] == "memory limit exceeded"


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
async def test_bodies_of_other_types(api: Api, kind: str) -> None:
    """What forms and scripts of other sites can send without asking is not heeded."""
    body = json.dumps(GOOD).encode()
    fault = await only_fault(api, body, 415, {"content-type": kind})
    assert fault == ("header.content-type", "expected application/json or application/x-ndjson")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [*GOOD, "priority", "key", "batch", "webhook", "make", "to", "url", "form", "method", "width", "options"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(st.dictionaries(fields, json_values, max_size=6) | json_values, max_size=3), at=st.data()
)
def test_anything_at_all_is_refused_politely(
    server: JobServer, client: httpx.Client, jobs: list[Any], at: st.DataObject
) -> None:
    """A whole job with one part replaced by anything, or anything; the text cut or changed somewhere."""
    mutant = json.loads(json.dumps(output({"method": "fit", "format": "png", "options": {"a": 1}})))
    place: Any = mutant
    for step in at.draw(st.sampled_from([(), ("outputs",), ("outputs", 0), ("outputs", 0, "make")])):
        place = place[step]
    key = at.draw(st.sampled_from(list(place) if isinstance(place, dict) else [0]))
    place[key] = at.draw(json_values)
    text = json.dumps([mutant, *jobs]).encode()
    if at.draw(st.booleans()):
        cut = at.draw(st.integers(0, len(text)))
        text = text[:cut] + at.draw(st.binary(max_size=3)) + text[cut + at.draw(st.integers(0, 3)) :]
    answer = client.post(f"{server.url}/jobs", content=text, headers=JSON)
    assert answer.status_code in (202, 400, 403), answer.text
    if answer.status_code != 202:
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["errors"][0]["where"].startswith(("jobs", "body"))


# --- paths, methods and parameters


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/",
        "/jobs/x",
        f"/jobs/{NOBODY}",
        f"/jobs/{NOBODY.upper()}",
        f"/jobs/{NOBODY}/events",
        f"/jobs/{NOBODY}/events/x",
        "/jobs//",
        "/jobs/%00",
        "/jobs/%ff",
        "/jobs/%zz",
        "/jobs/%2e%2e",
        "/jobs/" + "9" * 5000,
        "/batches",
        "/batches/",
        "/batches/none",
        "/batches/%00",
        "/batches/%ff",
        "/batches/none/events",
        "/batches/a/b",
        "/openapi.json/x",
    ],
)
async def test_what_there_is_not(api: Api, path: str) -> None:
    problem = await api.ask("GET", path, 404)
    assert problem["title"] == "Not Found"
    assert (await api.client.head(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed_methods"),
    [
        ("PUT", "/jobs", "POST, GET"),
        ("DELETE", "/jobs", "POST, GET"),
        ("GET", "/jobs/retry", "POST"),
        ("POST", f"/jobs/{NOBODY}", "GET, DELETE"),
        ("GET", f"/jobs/{NOBODY}/retry", "POST"),
        ("POST", "/batches/a", "GET"),
        ("POST", "/openapi.json", "GET"),
        ("OPTIONS", "/jobs", "POST, GET"),
    ],
)
async def test_other_methods(api: Api, method: str, path: str, allowed_methods: str) -> None:
    answer = await api.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed_methods)
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_jobs_that_nobody_knows_cannot_be_changed(api: Api, method: str) -> None:
    path = f"/jobs/{NOBODY}"
    await api.ask(method, path if method == "DELETE" else f"{path}/retry", 404)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
        ("limit=x", "query.limit"),
        ("limit=" + "9" * 500, "query.limit"),
        ("limit=1&limit=2", "query.limit"),
        ("limit", "query"),
        ("state=gone", "query.state"),
        ("state=", "query.state"),
        ("batch=", "query.batch"),
        ("batch=%00", "query.batch"),
        ("batch=%ff", "query"),
        ("batch=" + "b" * 201, "query.batch"),
        ("created_from=yesterday", "query.created_from"),
        ("created_from=2026-01-01T00:00:00", "query.created_from"),
        ("created_before=2026-13-01T00:00:00Z", "query.created_before"),
        ("created_before=1e400", "query.created_before"),
        ("created_before=99999999999999999999", "query.created_before"),
        ("cursor=", "query.cursor"),
        ("cursor=x", "query.cursor"),
        ("cursor=-1", "query.cursor"),
        ("cursor=%D9%A3", "query.cursor"),
        ("cursor=" + "9" * 30, "query.cursor"),
        ("cursor=" + "9" * 300, "query.cursor"),
        ("color=red", "query"),
        ("&".join(f"x{number}=1" for number in range(30)), "query"),
        ("&&&", "query"),
    ],
)
async def test_parameters_that_make_no_sense(api: Api, query: str, where: str) -> None:
    problem = await api.ask("GET", f"/jobs?{query}", 400)
    assert [fault["where"] for fault in problem["errors"]] == [where]
    if not query.startswith(("limit", "state", "cursor")):
        problem = await api.ask("POST", f"/jobs/retry?{query}", 400)
        assert [fault["where"] for fault in problem["errors"]] == [where]


@pytest.mark.parametrize("query", ["state=dead", "limit=1", "cursor=1"])
async def test_retrying_has_no_such_parameters(api: Api, query: str) -> None:
    await api.ask("POST", f"/jobs/retry?{query}", 400)


# --- lists and batches


async def test_pages(api: Api) -> None:
    batch = f"pages & more/{uuid4()}"
    ids = await api.submit_all([changed(batch=batch) for _ in range(25)])
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.ask("GET", "/jobs", 200, params={"batch": batch, "limit": 10, **cursor})
        found += [view["id"] for view in page["jobs"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == ids[::-1]
    assert len((await api.ask("GET", "/jobs", 200, params={"batch": batch}))["jobs"]) == 25


async def test_lists_by_state_host_and_time(api: Api) -> None:
    batch = uuid4().hex
    before, now, after = [
        (await api.submit(changed(batch=batch, source=source)))["id"]
        for source in ("http://127.0.0.1/a", "http://one.pub.example/a", "http://127.0.0.1/c")
    ]
    moment = (await api.view(now))["created_at"]

    async def listed(**wanted: str) -> list[str]:
        page = await api.ask("GET", "/jobs", 200, params={"batch": batch, **wanted})
        return [view["id"] for view in page["jobs"]]

    assert await listed(host="one.pub.example") == [now]
    assert await listed(created_from=moment) == [after, now]
    assert await listed(created_before=moment) == [before]
    assert await listed(created_from=moment.replace("Z", "+00:00"), host=HOME) == [after]
    assert await listed(created_from="0001-01-01T00:00:00Z", created_before="9999-12-31T23:59:59Z")
    await api.ask("DELETE", f"/jobs/{before}", 200)
    assert await listed(state="cancelled") == [before]
    assert before not in await listed(state="waiting")


async def test_a_batch_is_counted(api: Api) -> None:
    batch = f"ä/b {uuid4()}?"
    ids = await api.submit_all([changed(batch=batch) for _ in range(4)])
    path = "/batches/" + "".join(f"%{octet:02X}" for octet in batch.encode())
    await api.ask("DELETE", f"/jobs/{ids[0]}", 200)
    view = await api.ask("GET", path, 200)
    assert list(view) == ["batch", "total", "waiting", "running", "done", "dead", "cancelled", "ended"]
    assert (view["batch"], view["total"], view["cancelled"]) == (batch, 4, 1)

    async def ended() -> Any:
        view = await api.ask("GET", path, 200)
        return view if view["ended"] else None

    view = await until(ended)
    assert view["dead"] + view["cancelled"] == 4
    assert view["waiting"] == view["running"] == 0


async def test_answers_can_be_asked_for_again(api: Api) -> None:
    """They have entity tags, so polling costs little."""
    job_id = (await api.submit(GOOD))["id"]
    await api.ask("DELETE", f"/jobs/{job_id}", 200)
    answer = await api.client.get(f"/jobs/{job_id}")
    again = await api.client.get(f"/jobs/{job_id}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["cache-control"] == "no-cache"
