"""Stores that are down, slow, broken or refuse us: what is tried again, how long, and what is said then."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from fault_proxy import (
    Answer,
    Choice,
    CutRequest,
    CutResponse,
    Delay,
    Fault,
    FaultProxy,
    Pass,
    Reset,
    SeenRequest,
    times,
)
from s3_clients import HURRIED, IMPATIENT, PATIENT, Clients, content, put
from s3_servers import READER, Credentials, S3Server
from slow_store import serving
from structlog.testing import capture_logs

from safelight.blob import MemoryBlob
from safelight.errors import (
    Busy,
    MemoryLimitExceeded,
    NoSuchBucket,
    NoSuchKey,
    S3AccessDenied,
    SafelightError,
    StorageError,
    StorageUnreachable,
    Timeout,
)
from safelight.server.errors import status_of
from safelight.storage.base import Storage
from safelight.storage.s3.account import Patience

DATA = bytes(range(256)) * 1000
LARGE = bytes(range(256)) * 12_000
NEW = b"new" * 100_000

Request = Callable[[Storage, str], Awaitable[object]]

REQUESTS: dict[str, Request] = {
    "get": content,
    "put": lambda storage, key: put(storage, key, NEW),
    "delete": lambda storage, key: storage.delete(key),
}
KEYS = pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
SOME_REQUESTS = [("get", "a"), ("put", "a"), ("delete", "a"), ("put", "a//b")]
ALL_REQUESTS = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)


async def failed(work: Awaitable[object]) -> SafelightError:
    """How `work` fails: in one of our words, with a detail for the log."""
    with pytest.raises(SafelightError) as caught:
        await work
    assert caught.value.detail
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.message
    return caught.value


# What passes


PASSING: dict[str, Callable[[], Choice]] = {
    "500 once": lambda: times(1, Answer(500)),
    "502 once": lambda: times(1, Answer(502, b"<html>Bad Gateway</html>")),
    "503 a few times": lambda: times(3, Answer(503, b"<Error><Code>SlowDown</Code></Error>")),
    "429 once": lambda: times(1, Answer(429)),
    "408 once": lambda: times(1, Answer(408)),
    "reset once": lambda: times(1, Reset()),
}


@pytest.mark.parametrize(("name", "key"), SOME_REQUESTS)
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_what_passes_is_tried_again(
    seaweed: S3Server,
    proxy: FaultProxy,
    clients: Clients,
    bucket: str,
    name: str,
    key: str,
    fault: Callable[[], Choice],
) -> None:
    seaweed.write(bucket, key, DATA)
    proxy.fault = fault()
    result = await REQUESTS[name](clients(proxy.url).bucket(bucket), key)
    assert len(proxy.requests) > 1
    if name == "get":
        assert result == DATA
    else:
        kept = [seaweed.read(bucket, key)] if seaweed.keys(bucket) else []
        assert kept == ([NEW] if name == "put" else [])


@KEYS
@pytest.mark.parametrize("name", ["get", "put"])
async def test_a_request_that_the_store_found_too_slow_is_sent_again(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, name: str
) -> None:
    """Amazon says so with status 400."""
    seaweed.write(bucket, key, DATA)
    answer = Answer(400, b"<Error><Code>RequestTimeout</Code><Message>idle</Message></Error>")
    proxy.fault = times(1, answer)
    await REQUESTS[name](clients(proxy.url).bucket(bucket), key)
    proxy.fault = answer
    error = await failed(REQUESTS[name](clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert isinstance(error, Timeout)


@KEYS
@ALL_REQUESTS
async def test_a_store_that_comes_back_is_waited_for(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    seaweed.write(bucket, key, DATA)
    storage = clients(proxy.url).bucket(bucket)
    with proxy.refusing():
        task = asyncio.ensure_future(request_(storage, key))
        await asyncio.sleep(0.2)
        assert not task.done()
    await task


@KEYS
@pytest.mark.parametrize("after_bytes", [0, 1, 100_000, 2_500_000])
async def test_a_download_that_was_cut_is_made_again(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, after_bytes: int
) -> None:
    seaweed.write(bucket, key, LARGE)
    proxy.fault = times(2, CutResponse(after_bytes))
    assert await content(clients(proxy.url).bucket(bucket), key) == LARGE
    assert len(proxy.requests) == 3


@KEYS
@pytest.mark.parametrize("after_bytes", [1, 100_000, 2_500_000])
async def test_an_upload_that_was_cut_is_made_again(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, after_bytes: int
) -> None:
    proxy.fault = times(2, CutRequest(after_bytes))
    await put(clients(proxy.url).bucket(bucket), key, LARGE)
    assert seaweed.read(bucket, key) == LARGE
    assert len(proxy.requests) == 3


@KEYS
@pytest.mark.parametrize("status", [204, 404])
async def test_a_deletion_whose_answer_was_lost_is_done(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, status: int
) -> None:
    """Tried again it finds nothing, of which stores say one thing or another."""
    seaweed.write(bucket, key, DATA)
    is_lost = False

    def lose_first_answer(seen: SeenRequest) -> Fault:
        nonlocal is_lost
        if seen.method != "DELETE":
            return Pass()
        if is_lost:
            return Answer(status)
        is_lost = True
        seaweed.delete(bucket, key)
        return Reset()

    proxy.fault = lose_first_answer
    await clients(proxy.url).bucket(bucket).delete(key)
    assert seaweed.keys(bucket) == []


# What does not


def hung_up(seen: SeenRequest) -> Fault:
    """Of an upload SeaweedFS must get a byte: it keeps an empty object of one that ends before the first."""
    return CutRequest(1 if seen.method == "PUT" else 0)


LASTING: dict[str, tuple[Choice, type[SafelightError], int, str]] = {
    "500": (Answer(500), StorageUnreachable, 502, "the object store answered 500"),
    "503": (Answer(503), Busy, 503, "the object store is overloaded"),
    "429": (Answer(429), Busy, 503, "the object store is overloaded"),
    "504": (Answer(504), Timeout, 504, "the object store does not answer in time"),
    "reset": (Reset(), StorageUnreachable, 502, "the object store cannot be reached"),
    "no answer": (hung_up, StorageUnreachable, 502, "the object store cannot be reached"),
    "no HTTP": (
        Answer(200, b"", (("Content-Length", "7"),)),
        StorageUnreachable,
        502,
        "the object store cannot be reached",
    ),
    "another protocol": (Answer(418, b"<tea>"), StorageError, 500, "the object store answered 418"),
}


@pytest.mark.covers("s159")
@pytest.mark.parametrize(("name", "key"), SOME_REQUESTS)
@pytest.mark.parametrize(("fault", "kind", "status", "reason"), LASTING.values(), ids=LASTING)
async def test_what_lasts_is_told(
    seaweed: S3Server,
    proxy: FaultProxy,
    clients: Clients,
    bucket: str,
    name: str,
    key: str,
    fault: Choice,
    kind: type[SafelightError],
    status: int,
    reason: str,
) -> None:
    seaweed.write(bucket, key, DATA)
    proxy.fault = fault
    error = await failed(REQUESTS[name](clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert type(error) is kind
    assert status_of(error) == status
    assert error.message.startswith(f"S3 bucket '{bucket}': {reason}")
    assert seaweed.read(bucket, key) == DATA


@KEYS
@ALL_REQUESTS
async def test_a_store_that_is_down(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    storage = clients(proxy.url, patience=IMPATIENT).bucket(bucket)
    with proxy.refusing():
        error = await failed(request_(storage, key))
    assert type(error) is StorageUnreachable
    assert error.message == f"S3 bucket '{bucket}': the object store cannot be reached"
    assert status_of(error) == 502
    assert "refused" in (error.detail or "").lower() or "connect" in (error.detail or "").lower()


async def test_busy_stores_say_when_to_come_back(proxy: FaultProxy, clients: Clients, bucket: str) -> None:
    proxy.fault = Answer(503)
    error = await failed(content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), "a"))
    assert isinstance(error, Busy)
    assert error.retry_after_s > 0


@KEYS
async def test_only_the_first_wait_for_a_store_that_is_down(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    """The others fail at once, until it has answered again."""
    seaweed.write(bucket, key, DATA)
    client = clients(proxy.url, patience=IMPATIENT)
    storage = client.bucket(bucket)
    proxy.fault = Answer(503)
    await failed(content(storage, key))
    assert client.outlook.give_up_s(bucket) == 0
    before = len(proxy.requests)
    await failed(content(storage, key))
    assert len(proxy.requests) == before + 1
    proxy.fault = Pass()
    assert await content(storage, key) == DATA
    assert client.outlook.give_up_s(bucket) == IMPATIENT.give_up_s


@KEYS
async def test_a_store_that_refuses_is_not_down(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    client = clients(proxy.url, patience=IMPATIENT)
    proxy.fault = Answer(503)
    await failed(content(client.bucket(bucket), key))
    proxy.fault = Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
    await failed(content(client.bucket(bucket), key))
    assert client.outlook.give_up_s(bucket) == IMPATIENT.give_up_s


async def test_a_bucket_that_is_overloaded_is_no_reason_to_give_up_others(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    client = clients(proxy.url, patience=IMPATIENT)
    proxy.fault = Answer(503)
    await failed(content(client.bucket(bucket), "a"))
    assert client.outlook.give_up_s("another") == IMPATIENT.give_up_s


@KEYS
@ALL_REQUESTS
async def test_a_store_that_never_answers(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    seaweed.write(bucket, key, DATA)
    proxy.fault = Delay(None)
    error = await failed(request_(clients(proxy.url, patience=HURRIED).bucket(bucket), key))
    assert type(error) is Timeout
    assert error.message == f"S3 bucket '{bucket}': the object store does not answer in time"
    assert status_of(error) == 504
    assert len(proxy.requests) == 1


@KEYS
async def test_a_store_that_takes_no_connection_leaves_time_for_the_next_source(
    clients: Clients, key: str
) -> None:
    """As behind a firewall that drops what it does not know, however short requests may be."""
    with ExitStack() as held:
        store = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than wait to be accepted
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(store.getsockname())
        url = f"http://127.0.0.1:{store.getsockname()[1]}"
        storage = clients(url, patience=Patience.of_requests(2)).bucket("bucket")
        async with asyncio.timeout(2):
            assert type(await failed(content(storage, key))) is Timeout


@KEYS
@pytest.mark.parametrize("request_", [REQUESTS["get"], REQUESTS["delete"]], ids=["get", "delete"])
async def test_a_silent_store_is_not_asked_again_and_again(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    """Others fail soon and in the same words, without being sent, until one that tries is answered."""
    seaweed.write(bucket, key, DATA)
    client = clients(proxy.url, patience=HURRIED)
    storage = client.bucket(bucket)
    proxy.fault = Delay(None)
    with capture_logs() as log:
        first = await failed(request_(storage, key))
        errors = await asyncio.gather(*(failed(content(storage, f"{key}{number}")) for number in range(20)))
        assert {(type(error), error.message) for error in errors} == {(Timeout, first.message)}
        assert len(proxy.requests) == 1
        proxy.fault = Pass()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0)
            assert await content(storage, key) == DATA
        assert await content(storage, key) == DATA
    silent = f"S3 bucket '{bucket}' keeps silent: one request in 10 s tries, others fail"
    assert [line["event"] for line in log] == [silent, f"S3 bucket '{bucket}' answers again"]


async def test_those_who_wait_go_on_when_a_trial_is_answered(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0.4)
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_ANSWER_S", 30)
    for key in "abc":
        seaweed.write(bucket, key, DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = Delay(None)
    await failed(content(storage, "a"))
    proxy.fault = Delay(0.2)
    assert await asyncio.gather(*(content(storage, key) for key in "abc")) == [DATA] * 3


async def test_one_request_without_an_answer_does_not_hold_back_others(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    """The store answers others meanwhile: it is that object which is slow."""
    seaweed.write(bucket, "fast", DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = lambda seen: Delay(None) if "slow" in seen.target else Pass()
    slow = asyncio.create_task(failed(content(storage, "slow")))
    while not slow.done():
        assert await content(storage, "fast") == DATA
    assert await content(storage, "fast") == DATA


@pytest.mark.parametrize(("waited_s", "is_silent"), [(0.1, True), (60, False)])
async def test_silence_is_noticed_although_all_clients_leave_before(
    proxy: FaultProxy,
    clients: Clients,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    waited_s: float,
    is_silent: bool,
) -> None:
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_S", waited_s)
    client = clients(proxy.url, patience=PATIENT)
    proxy.fault = Delay(None)
    leaving = asyncio.create_task(content(client.bucket(bucket), "a"))
    await asyncio.sleep(0.3)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert (client.outlook.give_up_s(bucket) == 0) is is_silent


async def test_an_upload_that_takes_too_long_does_not_hold_back_others(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    seaweed.write(bucket, "a", DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = lambda seen: Delay(None) if seen.method == "PUT" else Pass()
    assert type(await failed(put(storage, "b", DATA))) is Timeout
    assert await content(storage, "a") == DATA


async def test_an_upload_without_an_answer_does_not_end_a_silence(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    seaweed.write(bucket, "a", DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = Delay(None)
    with capture_logs() as log:
        await failed(content(storage, "a"))
        assert type(await failed(put(storage, "b", DATA))) is Timeout
        await failed(content(storage, "a"))
    assert [seen.method for seen in proxy.requests] == ["GET", "PUT"]
    assert not [line for line in log if "answers again" in line["event"]]


@pytest.mark.parametrize("limit", [len(LARGE), 1], ids=["slowly", "too large"])
async def test_the_beginning_of_an_answer_ends_a_silence(
    seaweed: S3Server, clients: Clients, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """What tries may be a large object: who waits for it does not wait for the whole."""
    is_silent = True

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_silent:
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(LARGE)}\r\nETag: a\r\n"
        writer.write(f"{head}Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n\r\n".encode())
        writer.write(LARGE[: 2 << 20])

    async with serving(serve) as store:
        storage = clients(store.url, patience=replace(HURRIED, silence_s=2)).bucket("bucket")
        await failed(content(storage, "a"))
        is_silent = False
        monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0)
        trial = asyncio.create_task(storage.get("large", limit))
        await asyncio.sleep(0)
        monkeypatch.undo()
        with pytest.raises(MemoryLimitExceeded):
            await storage.get("b", 1)
        trial.cancel()
        await asyncio.wait([trial])


async def test_a_silence_does_not_end_with_connections_that_are_refused(
    proxy: FaultProxy, clients: Clients, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fail soon enough, but nothing has answered."""
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = Delay(None)
    await failed(content(storage, "a"))
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0)
    with proxy.refusing(), capture_logs() as log:
        assert type(await failed(content(storage, "a"))) is StorageUnreachable
    said = f"S3 bucket '{bucket}' is no longer silent, but cannot be reached"
    assert [line["event"] for line in log] == [said]


async def test_nobody_waits_with_the_request_that_tries(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the same object; and not with one that was sent before the silence was noticed."""
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_ANSWER_S", 0)
    storage = clients(proxy.url, patience=replace(HURRIED, silence_s=2)).bucket(bucket)
    proxy.fault = Delay(None)
    first = asyncio.create_task(failed(content(storage, "a")))
    await asyncio.sleep(1)
    second = asyncio.create_task(failed(content(storage, "b")))
    await first
    assert "not asked" in str((await failed(content(storage, "b"))).detail)
    assert not second.done()
    await second
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0)
        trial = asyncio.create_task(failed(content(storage, "a")))
        await asyncio.sleep(0)
    assert "not asked" in str((await failed(content(storage, "a"))).detail)
    assert not trial.done()
    await trial


async def test_a_silent_store_that_refuses_is_asked_again(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweed.write(bucket, "a", DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = Delay(None)
    await failed(content(storage, "a"))
    proxy.fault = Answer(503)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0)
        assert isinstance(await failed(content(storage, "a")), Busy)
    proxy.fault = Pass()
    assert await content(storage, "a") == DATA


@KEYS
@pytest.mark.parametrize("after_bytes", [0, 1, 2_500_000])
async def test_no_part_of_an_object_is_ever_taken_for_it(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, after_bytes: int
) -> None:
    seaweed.write(bucket, key, LARGE)
    proxy.fault = CutResponse(after_bytes)
    error = await failed(content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert type(error) is StorageUnreachable


@KEYS
@pytest.mark.parametrize("after_bytes", [1, 2_500_000])
async def test_an_upload_that_is_always_cut_changes_nothing(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, after_bytes: int
) -> None:
    seaweed.write(bucket, key, DATA)
    proxy.fault = CutRequest(after_bytes)
    error = await failed(put(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key, LARGE))
    assert type(error) is StorageUnreachable
    assert seaweed.read(bucket, key) == DATA


@KEYS
@pytest.mark.parametrize("status", [200, 204])
async def test_an_upload_is_not_acknowledged_by_whatever_says_yes(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, status: int
) -> None:
    """A web server in the place of a store has no entity tag for us."""
    proxy.fault = Answer(status, b"" if status == 204 else b"<html>Welcome</html>")
    error = await failed(put(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key, DATA))
    assert isinstance(error, StorageUnreachable)


async def test_attempts_and_pauses_stay_within_patience(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    """Pauses of 0.1, 0.2, 0.2 ... seconds, of which up to half is taken off: at most eleven within one."""
    proxy.fault = Answer(503)
    patience = replace(PATIENT, give_up_s=1, backoff_s=0.1, max_backoff_s=0.2)
    storage = clients(proxy.url, patience=patience).bucket(bucket)
    began = time.monotonic()
    await failed(content(storage, "a"))
    assert time.monotonic() - began >= 0.5
    assert 2 <= len(proxy.requests) <= 12


# Slow uploads, and requests that nobody waits for any more


@KEYS
async def test_an_upload_may_take_longer_than_silence(clients: Clients, key: str) -> None:
    size = 12 << 20

    async def receive_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(12):
            await reader.readexactly(1 << 20)
            await asyncio.sleep(0.1)
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')

    patience = replace(HURRIED, slowest_upload_bytes=1 << 20)
    async with serving(receive_slowly) as store:
        storage = clients(store.url, patience=patience).bucket("bucket", public=True)
        began = time.monotonic()
        await storage.put(key, MemoryBlob(bytes(size)), "image/png")
        assert time.monotonic() - began > patience.silence_s


@KEYS
async def test_an_upload_that_goes_nowhere_ends(clients: Clients, key: str) -> None:
    stays = asyncio.Event()

    async def receive_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await stays.wait()

    async with serving(receive_nothing) as store:
        storage = clients(store.url, patience=HURRIED).bucket("bucket")
        error = await failed(storage.put(key, MemoryBlob(bytes(12 << 20)), "image/png"))
        stays.set()
    assert type(error) is Timeout


@KEYS
@ALL_REQUESTS
async def test_a_deadline_closes_the_connection(clients: Clients, key: str, request_: Request) -> None:
    async def answer_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None: ...

    async with serving(answer_nothing) as store:
        task = asyncio.ensure_future(request_(clients(store.url).bucket("bucket"), key))
        await store.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.until_left()


# Refusals


@pytest.mark.covers("s158")
@KEYS
async def test_a_missing_key(proxy: FaultProxy, clients: Clients, bucket: str, key: str) -> None:
    storage = clients(proxy.url).bucket(bucket, prefix="prefix/")
    for request in (content(storage, key), storage.delete(key)):
        error = await failed(request)
        assert type(error) is NoSuchKey
        assert error.message == f"S3 bucket '{bucket}' does not contain key '{key}'"
        assert status_of(error) == 404
    assert [seen.method for seen in proxy.requests] == ["GET", "HEAD", "GET"]


@pytest.mark.covers("s159")
@KEYS
@ALL_REQUESTS
async def test_a_missing_bucket(moto: S3Server, clients: Clients, key: str, request_: Request) -> None:
    error = await failed(request_(clients(moto.url).bucket("missing"), key))
    assert type(error) is NoSuchBucket
    assert error.message == "S3 bucket 'missing' does not exist"
    assert status_of(error) == 500


@KEYS
async def test_a_missing_bucket_in_another_store(seaweed: S3Server, clients: Clients, key: str) -> None:
    """This one makes a bucket for an administrator who stores into it."""
    storage = clients(seaweed.url).bucket("missing")
    for request in (content(storage, key), storage.delete(key)):
        assert type(await failed(request)) is NoSuchBucket


@pytest.mark.covers("s159")
@KEYS
@ALL_REQUESTS
@pytest.mark.parametrize(
    "credentials", [Credentials("AKIDTESTADMIN", "wrong"), Credentials("AKIDUNKNOWN", "secret"), READER]
)
async def test_access_denied(
    seaweed: S3Server,
    clients: Clients,
    bucket: str,
    key: str,
    request_: Request,
    credentials: Credentials,
) -> None:
    seaweed.write(bucket, key, DATA)
    storage = clients(seaweed.url, credentials).bucket(bucket)
    if credentials is READER and request_ is REQUESTS["get"]:
        assert await content(storage, key) == DATA
        return
    error = await failed(request_(storage, key))
    assert type(error) is S3AccessDenied
    assert error.message == f"access to S3 bucket '{bucket}' or key '{key}' was denied"
    assert status_of(error) == 500
    assert seaweed.read(bucket, key) == DATA


@pytest.mark.parametrize("body", [b"", b"<html>gone</html>", b"<Error>" * 10_000])
@KEYS
async def test_answers_that_are_no_xml(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, body: bytes
) -> None:
    proxy.fault = Answer(404, body)
    storage = clients(proxy.url, patience=IMPATIENT).bucket(bucket)
    assert type(await failed(content(storage, key))) is NoSuchKey
    error = await failed(put(storage, key, DATA))
    assert type(error) is StorageError
    assert error.message == f"S3 bucket '{bucket}': the object store answered 404"
    assert len(error.detail or "") < 1000


@KEYS
@ALL_REQUESTS
async def test_answers_that_are_no_text(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    proxy.fault = Answer(400, b"\xff\xfe\x00")
    error = await failed(request_(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert isinstance(error, StorageError)


@KEYS
@ALL_REQUESTS
async def test_a_region_that_is_none_is_not_remembered(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, request_: Request
) -> None:
    storage = clients(proxy.url, patience=IMPATIENT).bucket(bucket)
    proxy.fault = Answer(400, b"", (("x-amz-bucket-region", "e v/\xe9@x"),))
    assert isinstance(await failed(request_(storage, key)), StorageError)
    proxy.fault = Pass()
    seaweed.write(bucket, key, DATA)
    assert await content(storage, key) == DATA


@KEYS
async def test_a_code_that_is_too_long_is_not_shown(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    proxy.fault = Answer(400, b"<Error><Code>" + b"A" * 10_000 + b"</Code></Error>")
    error = await failed(content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert error.message == f"S3 bucket '{bucket}': the object store answered 400"


@KEYS
@pytest.mark.parametrize("when", ["Fri, 31 Dec 9999 23:59:59 -0100", "Wed, 01 Jan 99999999999 00:00:00 GMT"])
async def test_a_time_that_no_calendar_has(clients: Clients, key: str, when: str) -> None:
    """A failure of the store at most, and so a reason to ask the next source."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: a\r\nConnection: close\r\n"
        writer.write(f"{head}Last-Modified: {when}\r\n\r\na".encode())

    async with serving(serve) as store:
        storage = clients(store.url, patience=IMPATIENT).bucket("bucket")
        for request in (storage.get(key, 9), storage.version(key), storage.delete(key)):
            with suppress(StorageUnreachable):
                await request


@KEYS
async def test_the_code_and_message_of_the_store_are_in_the_log(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    proxy.fault = Answer(400, b"<Error><Code>OddCode</Code><Message>odd message</Message></Error>")
    error = await failed(content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key))
    assert error.message == f"S3 bucket '{bucket}': the object store answered 400 OddCode"
    assert "OddCode odd message" in (error.detail or "")
