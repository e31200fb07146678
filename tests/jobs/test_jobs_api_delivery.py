"""Jobs of the API from the request to what lies at their destinations, over real servers."""

import asyncio
import email
import email.policy
import io
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from job_api_support import Api, Gate, allowed, api_client, bodies, job_server, new_job, picture
from job_servers import Ftp, HttpServer, Seen, reply
from job_support import until
from PIL import Image
from s3_servers import S3Server
from test_jobs_legacy import JobServer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, seaweed: S3Server) -> Iterator[tuple[JobServer, str]]:
    """A server whose jobs may go to loopback, to a directory and to a bucket; and that bucket."""
    bucket, place = seaweed.make_bucket(), tmp_path_factory.mktemp("api")
    lines = (
        'source "127.0.0.1"',
        'source "*"',
        'destination "127.0.0.1"',
        f'destination "s3://{bucket}"',
        f'source_root "{place}/in"',
        f'destination_root "{place}/out"',
    )
    account = f's3 key="{seaweed.access_key}" secret="{seaweed.secret_key}" endpoint="{seaweed.url}"\n'
    with job_server(place / "server", configuration=account + allowed(*lines)) as server:
        yield server, bucket


@pytest.fixture
async def api(served: tuple[JobServer, str]) -> AsyncIterator[Api]:
    async with api_client(served[0]) as made:
        yield made


@pytest.fixture
def place(served: tuple[JobServer, str]) -> Path:
    """Above the directories of sources and destinations."""
    return served[0].log_path.parent.parent


def size_and_kind(data: bytes) -> tuple[tuple[int, int], str | None]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.size, image.format


async def test_one_source_goes_everywhere(
    api: Api, place: Path, web: HttpServer, ftp: Ftp, served: tuple[JobServer, str], seaweed: S3Server
) -> None:
    """Five outputs of one job, over every protocol, from one fetch; secrets are in no view and no log."""
    bucket, name = served[1], uuid4().hex
    web.answers = {"/a.png": reply(200, picture((600, 400))), "/put.jpg": reply(201), "/page": reply(303)}
    in_parts = {
        "method": "crop",
        "width": 20,
        "height": 30,
        "format": "png",
        "options": {"background-color": "red", "quality": 84},
        "edits": ["rotate,90"],
    }
    page = {"url": f"{web.url}/page", "form": {"field": "upload", "file_name": "b.png"}}
    view = await api.submit(
        {
            "source": f"{web.url}/a.png?secret=1",
            "outputs": [
                {"make": "fit,60,60,jpeg,quality:70", "to": f"{web.url}/put.jpg?signature=hunter2"},
                {"make": in_parts, "to": page},
                {"make": "pad,50,50,webp", "to": f"ftp://{ftp.login}/c.webp"},
                {
                    "make": {"method": "limit", "format": "png", "width": 33},
                    "to": f"file://{place}/out/d.png",
                },
                {"make": {"method": "fit", "format": "jpeg"}, "to": f"s3://{bucket}/{name}.jpg"},
            ],
        }
    )
    assert (view["state"], view["attempts"]) == ("waiting", 0)
    done = await api.ended(view["id"])
    assert (done["state"], done["attempts"], done["reason"]) == ("done", 1, None)
    assert [output["delivered"] for output in done["outputs"]] == [True] * 5
    assert [seen.target for seen in web.seen].count("/a.png?secret=1") == 1

    assert size_and_kind(bodies(web, "/put.jpg?signature=hunter2")[0]) == ((60, 40), "JPEG")
    (posted,) = (seen for seen in web.seen if seen.method == "POST")
    head = f"Content-Type: {posted.headers['content-type']}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + posted.body, policy=email.policy.HTTP).iter_parts()  # type: ignore[attr-defined]
    assert (part.get_param("name", header="content-disposition"), part.get_filename()) == ("upload", "b.png")
    assert size_and_kind(part.get_content()) == ((20, 30), "PNG")
    assert size_and_kind((ftp.root / "c.webp").read_bytes()) == ((50, 50), "WEBP")
    assert size_and_kind((place / "out" / "d.png").read_bytes()) == ((33, 22), "PNG")
    assert size_and_kind(seaweed.read(bucket, f"{name}.jpg")) == ((600, 400), "JPEG")

    assert [output["make"] for output in done["outputs"]] == [
        "fit,60,60,jpeg,quality:70",
        "crop,20,30,png,background-color:red,quality:84!rotate,90",
        "pad,50,50,webp",
        "limit,33,input,png",
        "fit,input,input,jpeg",
    ]
    assert done["source"] == f"{web.url}/a.png"
    assert [output["to"] for output in done["outputs"]] == [
        f"{web.url}/put.jpg",
        f"{web.url}/page",
        f"ftp://{ftp.place}/c.webp",
        f"file://{place}/out/d.png",
        f"s3://{bucket}/{name}.jpg",
    ]
    for secret in ("hunter2", "p%40ss", "p@ss", "secret=1"):
        assert secret not in api.server.log


async def test_nothing_is_fetched_before_the_answer(api: Api, web: HttpServer) -> None:
    """Not even a name is resolved: `.invalid` has no addresses (RFC 6761), and that kills only the job."""
    view = await api.submit(new_job("http://nowhere.invalid/a.png", f"{web.url}/b"))
    dead = await api.ended(view["id"])
    assert (dead["state"], dead["reason"]) == ("dead", "host 'nowhere.invalid' is not known")
    assert not web.seen


async def test_a_retry_delivers_what_was_not_delivered(api: Api, web: HttpServer) -> None:
    """One of three destinations refuses; the others get theirs once, however often the job is retried."""
    web.answers = {"/a.png": reply(200, picture()), "/1": reply(201), "/2": reply(403), "/3": reply(201)}
    view = await api.submit(new_job(f"{web.url}/a.png", *(f"{web.url}/{number}" for number in (1, 2, 3))))
    dead = await api.ended(view["id"])
    assert (dead["state"], dead["attempts"]) == ("dead", 1)
    assert dead["reason"] == f"'127.0.0.1:{web.port}' answered 403"
    assert [output["delivered"] for output in dead["outputs"]] == [True, False, True]

    assert (await api.ask("POST", f"/jobs/{view['id']}/retry", 200))["state"] in ("waiting", "running")
    dead = await api.when(view["id"], lambda view: view["state"] == "dead" and len(bodies(web, "/2")) == 2)
    web.answers["/2"] = reply(201)
    retried = await api.ask("POST", f"/jobs/{view['id']}/retry", 200)
    assert (retried["reason"], retried["ended_at"]) == (None, None)
    done = await api.ended(view["id"])
    assert (done["state"], [output["delivered"] for output in done["outputs"]]) == ("done", [True] * 3)
    assert [len(bodies(web, f"/{number}")) for number in (1, 2, 3)] == [1, 3, 1]
    problem = await api.ask("POST", f"/jobs/{view['id']}/retry", 409)
    assert problem["detail"] == "the job is done: only dead jobs can be retried"


async def test_an_attempt_that_may_go_better_is_repeated(api: Api, web: HttpServer) -> None:
    """The view says why and until when it waits; `attempts` are counted."""
    web.answers = {"/a.png": reply(503), "/out": reply(201)}
    view = await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out"))
    waiting = await api.when(view["id"], lambda view: view["reason"] is not None)
    assert (waiting["state"], waiting["attempts"]) == ("waiting", 1)
    assert waiting["reason"] == f"'127.0.0.1:{web.port}' answered 503"
    assert waiting["not_before"].endswith("Z")
    assert not waiting["outputs"][0]["delivered"]
    web.answers["/a.png"] = reply(200, picture())
    done = await api.ended(view["id"])
    assert (done["state"], done["attempts"], done["reason"], done["not_before"]) == ("done", 2, None, None)


async def test_many_dead_ones_are_retried_by_a_filter(api: Api, web: HttpServer) -> None:
    batch, other = uuid4().hex, uuid4().hex
    jobs = [new_job(f"{web.url}/none.png", f"{web.url}/out", batch=batch) for _ in range(5)]
    jobs.append(new_job(f"{web.url}/none.png", f"{web.url}/out", batch=other))
    ids = await api.submit_all(jobs)
    for job_id in ids:
        assert (await api.ended(job_id))["state"] == "dead"
    web.answers = {"/none.png": reply(200, picture()), "/out": reply(201)}
    nobody = await api.ask("POST", "/jobs/retry", 200, params={"batch": batch, "host": "else.example"})
    assert nobody == {"retried": 0}
    assert await api.ask("POST", "/jobs/retry", 200, params={"batch": batch}) == {"retried": 5}
    assert [(await api.ended(job_id))["state"] for job_id in ids] == ["done"] * 5 + ["dead"]
    assert await api.ask("POST", "/jobs/retry", 200, params={"batch": batch}) == {"retried": 0}


async def test_a_job_is_cancelled_while_it_runs(api: Api, web: HttpServer) -> None:
    """At once for everybody who looks; who does it lets go when its lease is due, and delivers nothing."""
    gate = Gate(reply(200, picture()))
    web.answers = {"/a.png": gate, "/out": reply(201)}
    view = await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out"))
    await until(lambda: asyncio.sleep(0, gate.visitors))
    assert (await api.view(view["id"]))["state"] == "running"
    cancelled = await api.ask("DELETE", f"/jobs/{view['id']}", 200)
    assert cancelled["state"] == "cancelled"
    assert cancelled["ended_at"] > cancelled["created_at"]
    await until(lambda: asyncio.sleep(0, "a job was cancelled" in api.server.log))
    gate.opened.set()
    assert await api.view(view["id"]) == cancelled
    assert await api.ask("DELETE", f"/jobs/{view['id']}", 200) == cancelled
    assert bodies(web, "/out") == []


async def test_a_job_that_was_cancelled_delivers_nothing_even_before_its_lease_is_due(
    api: Api, web: HttpServer
) -> None:
    gate = Gate(reply(200, picture()))
    web.answers = {"/a.png": gate, "/out": reply(201)}
    view = await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out"))
    await until(lambda: asyncio.sleep(0, gate.visitors))
    assert (await api.ask("DELETE", f"/jobs/{view['id']}", 200))["state"] == "cancelled"
    gate.opened.set()
    told = re.compile(f"lease.*{view['id']}")
    await until(lambda: asyncio.sleep(0, told.search(api.server.log)))
    assert bodies(web, "/out") == []


async def test_one_that_waits_is_cancelled_and_one_that_is_done_is_not(api: Api, web: HttpServer) -> None:
    web.answers = {"/a.png": reply(200, picture()), "/out": reply(201)}
    done = await api.ended((await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out")))["id"])
    assert await api.ask("DELETE", f"/jobs/{done['id']}", 200) == done
    web.answers["/a.png"] = reply(503)
    later = (await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out")))["id"]
    await api.when(later, lambda view: view["reason"] is not None)
    assert (await api.ask("DELETE", f"/jobs/{later}", 200))["state"] == "cancelled"


async def test_higher_priority_comes_first(tmp_path: Path, web: HttpServer) -> None:
    """While one job holds the only place of the host; where priority is equal, the older one."""
    gate, order = Gate(reply(200, picture())), list[str]()

    async def taken(request: Seen, writer: asyncio.StreamWriter) -> None:
        order.append(request.target)
        await reply(200, picture())(request, writer)

    names = {"/low": -5, "/none": 0, "/top": 100, "/high": 7, "/late": 7}
    web.answers = {"/gate": gate, "/out": reply(201), **dict.fromkeys(names, taken)}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"').replace(
        "jobs", "jobs per-host=1"
    )
    with job_server(tmp_path / "server", configuration=configuration) as server:
        async with api_client(server) as api:
            first = await api.submit(new_job(f"{web.url}/gate", f"{web.url}/out"))
            await until(lambda: asyncio.sleep(0, gate.visitors))
            ids = await api.submit_all(
                [
                    new_job(web.url + name, f"{web.url}/out", priority=priority)
                    for name, priority in names.items()
                ]
            )
            gate.opened.set()
            views = [await api.ended(job_id) for job_id in (first["id"], *ids)]
    assert {view["state"] for view in views} == {"done"}
    assert order == ["/top", "/high", "/late", "/none", "/low"]
    assert [view["priority"] for view in views[1:]] == list(names.values())


async def test_a_key_makes_two_one(api: Api, web: HttpServer) -> None:
    """Also within one request, and after it has ended; what else the second one says does not matter."""
    web.answers = {"/a.png": reply(200, picture()), "/out": reply(201)}
    key, url = f"order {uuid4()}", f"{web.url}/a.png"
    first = await api.submit(new_job(url, f"{web.url}/out", key=key))
    second = await api.submit(new_job(f"{web.url}/other.png", f"{web.url}/out", key=key))
    assert (second["id"], second["source"], second["key"]) == (first["id"], url, key)
    await api.ended(first["id"])
    ids = await api.submit_all(
        [
            new_job(url, f"{web.url}/out", key=key),
            new_job(url, f"{web.url}/out"),
            new_job(url, f"{web.url}/out", key=f"{key} 2"),
            new_job(url, f"{web.url}/out", key=f"{key} 2"),
        ]
    )
    assert ids[0] == first["id"]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 3
    for job_id in ids:
        await api.ended(job_id)
    assert len(bodies(web, "/out")) == 3


async def test_a_job_of_the_older_server_is_seen_by_the_api(api: Api, web: HttpServer, place: Path) -> None:
    """And is still accepted on any other path."""
    web.answers = {"/a.png": reply(200, picture()), "/out.png": reply(201)}
    old: dict[str, Any] = {
        "operationType": "resize",
        "srcURL": f"{web.url}/a.png",
        "dstURL": f"{web.url}/out.png",
        "args": {"width": 50, "height": 40, "http_method": "PUT"},
    }
    answer = await api.client.post("/some/path", json=old)
    assert (answer.status_code, answer.json()) == (200, {"dstURL": f"{web.url}/out.png"})
    page = await api.ask("GET", "/jobs", 200, params={"limit": 1, "host": "127.0.0.1"})
    (view,) = page["jobs"]
    assert view["outputs"][0]["make"] == {"kind": "resize", "width": 50, "height": 40, "format": "png"}
    assert view["priority"] == 100
    done = await api.ended(view["id"])
    assert done["outputs"][0]["delivered"]
    assert len(bodies(web, "/out.png")) == 2


async def test_sources_by_ftp_and_from_a_directory(api: Api, place: Path, ftp: Ftp) -> None:
    (ftp.root / "a.png").write_bytes(picture())
    (place / "in").mkdir(exist_ok=True)
    (place / "in" / "b c.png").write_bytes(picture())
    for number, source in enumerate((f"ftp://{ftp.login}/a.png", f"file://{place}/in/b c.png")):
        view = await api.submit(new_job(source, f"file://{place}/out/from-{number}.png"))
        assert (await api.ended(view["id"]))["state"] == "done"
        assert size_and_kind((place / "out" / f"from-{number}.png").read_bytes()) == ((20, 20), "PNG")
