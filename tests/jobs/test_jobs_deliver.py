"""Delivering images of jobs to real servers: whole, only where the policy allows, and known to be there."""

import asyncio
import errno
import io
import os
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from job_servers import (
    ESCAPED_PASSWORD,
    PASSWORD,
    USER,
    PlainHandler,
    Seen,
    for_ever,
    ftp_server,
    http_server,
    raw,
    reply,
)
from pyftpdlib.filesystems import AbstractedFS
from s3_clients import Clients

from safelight.blob import MemoryBlob
from safelight.jobs.deliver import deliver
from safelight.jobs.failure import DestinationError
from safelight.jobs.policy import Policy, Rule, parse_rule
from safelight.jobs.record import Delivery, Form
from safelight.storage.base import Storage

IMAGE = bytes(range(256)) * 20
LARGE = os.urandom(32 << 20)
"""More than sockets hold."""

HERE = Policy(destinations=(Rule("127.0.0.1"),), deliver_timeout_s=60, connect_timeout_s=30)
HURRIED = replace(HERE, deliver_timeout_s=0.3)


async def put(
    url: str,
    data: bytes = IMAGE,
    policy: Policy = HERE,
    form: Form | None = None,
    buckets: dict[str, Storage] | None = None,
) -> None:
    await deliver(Delivery(url, form), MemoryBlob(data), "image/png", policy, buckets or {})


async def refused(url: str, data: bytes = IMAGE, policy: Policy = HERE, **rest: Any) -> DestinationError:
    """The error, which shows no secret."""
    with pytest.raises(DestinationError) as caught:
        await put(url, data, policy, **rest)
    error = caught.value
    while error is not None:
        for secret in (PASSWORD, ESCAPED_PASSWORD, "hidden"):
            assert secret not in f"{error} {error!r} {getattr(error, 'detail', '')}"
        error = error.__cause__ or error.__context__
    return caught.value


def parsed(request: Seen) -> Message:
    """The one part of a form, read by the standard library."""
    header = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    (part,) = message_from_bytes(header + request.body).get_payload()
    return part


@pytest.mark.covers("j053")
async def test_put(web) -> None:
    web.answers["/out/a:b.png"] = reply(201)
    await put(f"http://{USER}:{ESCAPED_PASSWORD}@127.0.0.1:{web.port}/out/a:b.png?hidden=1")
    (request,) = web.seen
    assert (request.method, request.target, request.body) == ("PUT", "/out/a:b.png?hidden=1", IMAGE)
    assert request.headers["content-type"] == "image/png"
    assert request.headers["content-length"] == str(len(IMAGE))
    assert request.headers["authorization"] == "Basic dXNlcjpwQHNzOncvcmQ="


@pytest.mark.covers("j036")
@pytest.mark.covers("j037")
async def test_form(web) -> None:
    """The caller has split page and name; field, name and type are as reference/imgserve 6.1 says."""
    for page in ("/page.html", "/"):
        web.answers[page] = reply(200)
        await put(f"{web.url}{page}", form=Form("upload", "200-a.jpeg"))
        request = web.seen[-1]
        part = parsed(request)
        assert (request.method, request.target) == ("POST", page)
        assert part.get_param("name", header="Content-Disposition") == "upload"
        assert part.get_filename() == "200-a.jpeg"
        assert part.get_content_type() == "image/jpeg"
        assert part.get_payload(decode=True) == IMAGE


async def test_names_in_forms_are_quoted(web) -> None:
    web.answers["/"] = reply(200)
    await put(f"{web.url}/", form=Form('a"; b', 'é"; filename="x.gif'))
    disposition = 'form-data; name="a%22; b"; filename="é%22; filename=%22x.gif"'
    assert (
        f"Content-Disposition: {disposition}\r\nContent-Type: image/gif\r\n\r\n".encode() in web.seen[0].body
    )


@pytest.mark.parametrize(
    "name",
    [
        "a/b.png",
        "/b.png",
        "..",
        "../b.png",
        ".",
        "a\\b.png",
        "a\r\nX: y.png",
        "a\nb",
        "a\0.png",
        "\ud800.png",
    ],
)
@pytest.mark.covers("j066")
async def test_names_that_could_be_more_are_refused(web, name: str) -> None:
    assert not (await refused(f"{web.url}/", form=Form("file", name))).temporary
    assert not (await refused(f"{web.url}/", form=Form(f"x{name}/", "a.png"))).temporary
    assert web.connections == 0


@pytest.mark.parametrize("status", [200, 201, 204, 302, 303, 307, 399])
async def test_forms_that_are_taken(web, status: int) -> None:
    """A redirect leads to a page for people; it is not followed."""
    web.answers["/"] = reply(status, Location=f"{web.url}/elsewhere")
    await put(f"{web.url}/", form=Form("file", "a.png"))
    assert len(web.seen) == 1


@pytest.mark.parametrize(
    ("status", "temporary"),
    [
        *((status, False) for status in (302, 307, 400, 401, 403, 404, 413)),
        *((status, True) for status in (408, 429, 500, 502, 503, 504)),
    ],
)
@pytest.mark.covers("j064")
async def test_what_is_not_taken(web, status: int, temporary: bool) -> None:
    web.answers["/"] = reply(status, Location=f"{web.url}/elsewhere", Retry_After="7")
    errors = [await refused(f"{web.url}/")]
    if status >= 400:
        errors.append(await refused(f"{web.url}/", form=Form("file", "a.png")))
    for error in errors:
        assert error.temporary is temporary
        assert error.after_s == 7
        assert str(status) in error.message
    assert len(web.seen) == len(errors)


@pytest.mark.covers("j051")
async def test_https(secure_web) -> None:
    secure_web.answers["/a.png"] = reply(200)
    await put(f"{secure_web.url}/a.png", LARGE)
    assert secure_web.seen[0].body == LARGE


@pytest.mark.covers("j064")
async def test_nothing_is_sent_where_the_policy_does_not_allow(web, names) -> None:
    names.answers["target.test"] = [["127.0.0.1"]]
    only = Policy(destinations=(parse_rule(f"http://127.0.0.1:{web.port}/in"), Rule("*.test")))
    for policy, url in (
        (Policy(), f"{web.url}/a.png"),
        (Policy(), f"ftp://{USER}:hidden@127.0.0.1:{web.port}/a.png"),
        (only, f"{web.url}/inside/a.png"),
        (only, f"{web.url}/in/../a.png"),
        (only, f"{web.url}/in/%2e%2e/a.png"),
        (only, f"http://target.test:{web.port}/a.png"),
        (only, f"ftp://target.test:{web.port}/a.png"),
        (only, "s3://bucket/a.png"),
    ):
        error = await refused(url, policy=policy)
        assert not error.temporary
    assert web.connections == 0


@pytest.mark.covers("j029")
async def test_targets_that_are_not_there(names) -> None:
    policy = Policy(destinations=(Rule("does-not-exist.invalid"), Rule("127.0.0.1")))
    async with http_server() as server:
        port = server.port
    for scheme in ("http", "https", "ftp", "ftps"):
        assert (
            "not known" in (await refused(f"{scheme}://does-not-exist.invalid/a.png", policy=policy)).message
        )
        assert (await refused(f"{scheme}://127.0.0.1:{port}/a.png", policy=policy)).temporary


@pytest.mark.parametrize(
    ("then", "policy"),
    [(lambda: asyncio.sleep(0), HERE), (lambda: asyncio.sleep(0.2), HERE), (for_ever, HURRIED)],
    ids=["goes away", "lets its answer arrive and goes away", "takes no more"],
)
async def test_a_target_that_does_not_read_on(web, then, policy: Policy) -> None:
    """It has seen the head only and says that all is well."""
    web.reads_bodies = False
    web.answers["/"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", then=then)
    assert (await refused(f"{web.url}/", LARGE, policy)).temporary


@pytest.mark.parametrize(
    "answer",
    [raw(), raw(b"HTTP/1.1 20"), raw(b"garbage\r\n\r\n")],
    ids=["nothing", "half a line", "not HTTP"],
)
async def test_a_target_that_breaks_off(web, answer) -> None:
    web.answers["/"] = answer
    assert (await refused(f"{web.url}/")).temporary


async def test_a_slow_target(web) -> None:
    web.answers["/"] = raw(then=for_ever)
    error = await refused(f"{web.url}/", policy=HURRIED)
    assert error.temporary
    assert "longer than 0.3 s" in error.message


async def test_a_target_that_refuses_early(web) -> None:
    """The answer counts although not all was sent."""
    web.reads_bodies = False
    web.answers["/"] = reply(413)
    await refused(f"{web.url}/", LARGE)


@pytest.mark.covers("j039")
async def test_ftp(ftp) -> None:
    (ftp.root / "sub").mkdir()
    for data in (LARGE, IMAGE, b""):
        await put(f"ftp://{ftp.login}/sub/a%20%C3%A9?.png", data)
        assert (ftp.root / "sub/a é?.png").read_bytes() == data
    await put(f"ftp://{ftp.login}//b.png")
    await put(f"ftp://{ftp.login}/c.png")
    assert sorted(path.name for path in ftp.root.rglob("*")) == ["a é?.png", "b.png", "c.png", "sub"]


@pytest.mark.covers("j052")
async def test_ftps(ftps, implicit_ftps) -> None:
    for server in (ftps, implicit_ftps):
        for data in (LARGE, IMAGE):
            await put(f"ftps://{server.login}/a.png", data)
            assert (server.root / "a.png").read_bytes() == data


async def test_a_missing_ftp_directory(ftp) -> None:
    error = await refused(f"ftp://{ftp.login}/missing/a.png")
    assert "550" in error.message
    assert not error.temporary
    assert list(ftp.root.iterdir()) == []


@pytest.mark.covers("j030")
async def test_wrong_ftp_passwords(ftp) -> None:
    error = await refused(f"ftp://{USER}:hidden@{ftp.place}/a.png")
    assert "530" in error.message
    assert not error.temporary
    assert "STOR" not in ftp.commands


async def test_a_user_that_may_not_write(ftp) -> None:
    assert not (await refused(f"ftp://{ftp.place}/a.png")).temporary
    assert list(ftp.root.iterdir()) == []


class NoHiddenNames(PlainHandler):
    """Refuses names that begin with a dot."""

    def ftp_STOR(self, file: str, mode: str = "w") -> None:
        if Path(file).name.startswith("."):
            self.respond("553 Name not allowed.")
        else:
            super().ftp_STOR(file, mode)


@pytest.mark.parametrize(
    "settings",
    [
        {"handler": NoHiddenNames},
        {"permissions": "elradmwMT"},
        {"refused": {"RNFR": "502 Not implemented."}},
        {"refused": {"RNTO": "550 There is one already."}},
    ],
    ids=["no hidden names", "no right to rename", "no renaming", "no overwriting"],
)
async def test_servers_that_cannot_rename(tmp_path, settings) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with ftp_server(tmp_path, **settings) as server:
        await put(f"ftp://{server.login}/a.png", LARGE)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", LARGE)]


class FullFile(io.FileIO):
    """Has room for the beginning."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > len(IMAGE) // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


class FullDisk(AbstractedFS):
    """Has no room for what is written."""

    def open(self, filename: str, mode: str) -> Any:
        return FullFile(filename, "wb") if "w" in mode else super().open(filename, mode)


async def test_a_full_disk_leaves_the_old_file(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with ftp_server(tmp_path, abstracted_fs=FullDisk) as server:
        for data in (IMAGE, LARGE):
            error = await refused(f"ftp://{server.login}/a.png", data)
            assert error.temporary
            assert "426" in error.message
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"old")]


class CuttingHandler(PlainHandler):
    """Goes away in the middle of a transfer."""

    class dtp_handler(PlainHandler.dtp_handler):
        def handle_read(self) -> None:
            super().handle_read()
            if self.cmd_channel is not None and self.get_transmitted_bytes() > 1 << 16:
                self.cmd_channel.close()
                self.close()

        handle_read_event = handle_read


async def test_a_cut_transfer_leaves_the_old_file(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with ftp_server(tmp_path, CuttingHandler) as server:
        assert (await refused(f"ftp://{server.login}/a.png", LARGE)).temporary
    assert (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize(("answer", "temporary"), [("452 Full.", True), ("552 Quota.", False)])
async def test_an_upload_that_is_refused(tmp_path, answer: str, temporary: bool) -> None:
    with ftp_server(tmp_path, refused={"STOR": answer}) as server:
        error = await refused(f"ftp://{server.login}/a.png")
    assert error.temporary is temporary
    assert answer[:3] in error.message


@pytest.mark.parametrize("path", ["a%0d%0aDELE%20b", "a%00", "a\r\nDELE b"])
async def test_commands_cannot_be_put_into_ftp_names(ftp, path: str) -> None:
    (ftp.root / "b").write_bytes(b"kept")
    await refused(f"ftp://{ftp.login}/{path}")
    await refused(f"ftp://{path}:x@{ftp.place}/a.png")
    assert ftp.commands == []


@pytest.mark.covers("j040")
async def test_file(tmp_path) -> None:
    policy = Policy(destination_roots=(tmp_path / "out",))
    for data in (LARGE, IMAGE):
        await put(f"file://{tmp_path}/out/new/sub/a%20b.png", data, policy)
        assert (tmp_path / "out/new/sub/a%20b.png").read_bytes() == data
    (tmp_path / "out/link").symlink_to(tmp_path)
    for path in ("a.png", "out/../a.png", "outside/a.png", "out", "out/link/a.png"):
        assert not (await refused(f"file://{tmp_path}/{path}", policy=policy)).temporary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert not (await refused(f"file://{tmp_path}/out/a.png", policy=Policy())).temporary


async def test_a_local_file_relative_to_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    await put("file://new/a.png", policy=Policy(destination_roots=(tmp_path,)))
    assert (tmp_path / "new/a.png").read_bytes() == IMAGE


async def test_local_files_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"")
    policy = Policy(destination_roots=(tmp_path, Path("/proc/self")))
    assert not (await refused(f"file://{tmp_path}/a/b.png", policy=policy)).temporary
    assert (await refused("file:///proc/self/new.png", policy=policy)).message


async def test_s3(seaweed) -> None:
    clients = Clients()
    bucket = seaweed.make_bucket()
    policy = Policy(destinations=(parse_rule(f"s3://{bucket}/out"),))
    buckets = {bucket: clients(seaweed.url).bucket(bucket, prefix="", public=False, cache_control=None)}
    try:
        await put(f"s3://{bucket}/out/a b%20.png", policy=policy, buckets=buckets)
        assert seaweed.read(bucket, "out/a b%20.png") == IMAGE
        assert seaweed.head(bucket, "out/a b%20.png")["content-type"] == "image/png"
        for key in ("a.png", "out/../a.png"):
            assert not (await refused(f"s3://{bucket}/{key}", policy=policy, buckets=buckets)).temporary
        assert "no S3 client" in (await refused(f"s3://{bucket}/out/a.png", policy=policy)).message
        assert seaweed.keys(bucket) == ["out/a b%20.png"]
    finally:
        await clients.close()


@pytest.mark.parametrize("url", ["", "x.png", "gopher://127.0.0.1/x", "http://hidden@:x/"])
async def test_what_is_no_destination(url: str) -> None:
    assert not (await refused(url, policy=Policy(legacy=True))).temporary


async def test_a_form_is_for_http_only(ftp, tmp_path) -> None:
    for url in (f"ftp://{ftp.login}/a.png", f"file://{tmp_path}/a.png", "s3://bucket/a.png"):
        await refused(url, policy=Policy(legacy=True), form=Form("file", "a.png"))


async def test_legacy_delivers_to_anywhere(web, ftp, tmp_path) -> None:
    web.answers["/"] = reply(200)
    for url in (f"{web.url}/", f"ftp://{ftp.login}/a.png", f"file://{tmp_path}/legacy/a.png"):
        await put(url, policy=Policy(legacy=True))
