"""The servers and the proxy that tests of S3 stand on do what those tests take for granted."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from botocore.exceptions import ClientError
from fault_proxy import Answer, CutRequest, CutResponse, Delay, FaultProxy, Pass, Reset, times
from s3_servers import Credentials, OwnSeaweed, S3Server

DATA = bytes(range(256)) * 1000


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return caught.value.response["Error"]["Code"]


def test_seaweed_keeps_bytes_and_their_type(seaweed: S3Server) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "a/é b+c", DATA, "image/png")
    seaweed.write(bucket, "z", b"")
    assert seaweed.read(bucket, "a/é b+c") == DATA
    assert seaweed.head(bucket, "a/é b+c")["content-type"] == "image/png"
    assert seaweed.keys(bucket) == ["a/é b+c", "z"]
    seaweed.delete(bucket, "a/é b+c")
    assert seaweed.keys(bucket) == ["z"]


def test_buckets_are_new_and_empty(seaweed: S3Server) -> None:
    buckets = {seaweed.make_bucket() for _ in range(3)}
    assert len(buckets) == 3
    assert [seaweed.keys(bucket) for bucket in buckets] == [[], [], []]


def test_seaweed_refuses_writes_of_the_reader(seaweed: S3Server) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "key", DATA)
    client = seaweed.client_of(seaweed.reader)
    with client.get_object(Bucket=bucket, Key="key")["Body"] as body:
        assert body.read() == DATA
    with pytest.raises(ClientError) as writing:
        client.put_object(Bucket=bucket, Key="key", Body=b"other")
    with pytest.raises(ClientError) as deleting:
        client.delete_object(Bucket=bucket, Key="key")
    client.close()
    assert (code_of(writing), code_of(deleting)) == ("AccessDenied", "AccessDenied")
    assert seaweed.read(bucket, "key") == DATA


def test_seaweed_refuses_a_wrong_secret_an_unknown_key_and_no_key(seaweed: S3Server) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "key", DATA)
    codes: list[str] = []
    for credentials in (
        Credentials(seaweed.access_key, "wrong"),
        Credentials("AKIDUNKNOWN", seaweed.secret_key),
    ):
        client = seaweed.client_of(credentials)
        with pytest.raises(ClientError) as reading:
            client.get_object(Bucket=bucket, Key="key")
        client.close()
        codes.append(code_of(reading))
    assert codes == ["SignatureDoesNotMatch", "InvalidAccessKeyId"]
    assert httpx.get(f"{seaweed.url}/{bucket}/key", trust_env=False).status_code == 403


def test_seaweed_finds_the_bucket_in_the_host_name(seaweed: S3Server) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "key", DATA)
    host = f"{bucket}.{seaweed.virtual_host_domain}"
    client = seaweed.client_of(
        seaweed.admin, f"http://{seaweed.virtual_host_domain}", addressing_style="virtual"
    )
    link = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    client.close()
    assert link.startswith(f"http://{host}/key?")
    target = link.replace(
        f"http://{host}", seaweed.url
    )  # no resolver needed: only the Host header has the name
    assert httpx.get(target, headers={"Host": host}, trust_env=False).content == DATA


@pytest.mark.parametrize("end", [OwnSeaweed.kill, OwnSeaweed.stop])
def test_a_seaweed_of_ones_own_comes_back_with_its_objects(
    own_seaweed: Callable[[], OwnSeaweed], end: Callable[[OwnSeaweed], None]
) -> None:
    server = own_seaweed()
    bucket = server.make_bucket()
    server.write(bucket, "key", DATA)
    end(server)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
    server.start()
    assert server.read(bucket, "key") == DATA
    server.write(bucket, "other", b"after")
    assert server.keys(bucket) == ["key", "other"]


def test_moto_follows_the_access_control_list(moto: S3Server) -> None:
    bucket = moto.make_bucket()
    moto.client.put_object(Bucket=bucket, Key="public", Body=DATA, ACL="public-read")
    moto.client.put_object(Bucket=bucket, Key="private", Body=DATA, ACL="private")
    answers = {key: httpx.get(f"{moto.url}/{bucket}/{key}", trust_env=False) for key in ("public", "private")}
    assert {key: answer.status_code for key, answer in answers.items()} == {"public": 200, "private": 403}
    assert answers["public"].content == DATA
    assert moto.read(bucket, "private") == DATA


@pytest.fixture
def proxy(seaweed: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.url) as proxy:
        yield proxy


@pytest.fixture
def behind(seaweed: S3Server, proxy: FaultProxy) -> Iterator[S3Server]:
    """SeaweedFS as seen through the proxy."""
    server = S3Server(proxy.url)
    yield server
    server.close()


@pytest.fixture
def link(seaweed: S3Server, behind: S3Server) -> str:
    """A signed link through the proxy to an object that is `DATA`."""
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "key", DATA)
    return behind.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})


def test_the_proxy_passes_signed_requests_and_counts_them(
    seaweed: S3Server, behind: S3Server, proxy: FaultProxy
) -> None:
    bucket = behind.make_bucket()
    behind.write(bucket, "a b", DATA, "image/png")  # botocore waits for `100 Continue` before the body
    assert behind.read(bucket, "a b") == DATA
    assert behind.head(bucket, "a b")["content-length"] == str(len(DATA))
    assert seaweed.head(bucket, "a b")["content-type"] == "image/png"
    assert [(seen.method, seen.target, seen.body_bytes) for seen in proxy.requests] == [
        ("PUT", f"/{bucket}", 0),
        ("PUT", f"/{bucket}/a%20b", len(DATA)),
        ("GET", f"/{bucket}/a%20b", 0),
        ("HEAD", f"/{bucket}/a%20b", 0),
    ]
    assert {seen.header("host") for seen in proxy.requests} == {f"127.0.0.1:{proxy.port}"}


def test_the_proxy_passes_chunked_bodies(seaweed: S3Server, proxy: FaultProxy, behind: S3Server) -> None:
    bucket = seaweed.make_bucket()
    put = behind.client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    pieces = [DATA[:1000], DATA[1000:200_000], DATA[200_000:]]
    assert httpx.put(put, content=iter(pieces), trust_env=False).status_code == 200
    assert proxy.requests[-1].header("transfer-encoding") == "chunked"
    assert proxy.requests[-1].body_bytes == len(DATA)
    assert seaweed.read(bucket, "key") == DATA


@pytest.mark.parametrize("after_bytes", [0, 1, 100_000])
def test_the_proxy_cuts_answers(proxy: FaultProxy, link: str, after_bytes: int) -> None:
    proxy.fault = CutResponse(after_bytes)
    received = bytearray()
    with httpx.stream("GET", link, trust_env=False) as answer:
        assert answer.headers["content-length"] == str(len(DATA))
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(byte for piece in answer.iter_raw() for byte in piece)
    assert len(received) <= after_bytes
    assert DATA.startswith(received)


@pytest.mark.parametrize("after_bytes", [0, 1, 100_000])
def test_the_proxy_cuts_requests(
    seaweed: S3Server, proxy: FaultProxy, behind: S3Server, after_bytes: int
) -> None:
    bucket = seaweed.make_bucket()
    put = behind.client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    proxy.fault = CutRequest(after_bytes)
    with pytest.raises(httpx.TransportError):
        httpx.put(put, content=DATA, trust_env=False)
    assert proxy.requests[-1].body_bytes == after_bytes
    # SeaweedFS keeps an empty object of a request that ended before the first byte of its body
    assert DATA not in [seaweed.read(bucket, key) for key in seaweed.keys(bucket)]


def test_the_proxy_resets(proxy: FaultProxy, link: str) -> None:
    proxy.fault = Reset()
    with pytest.raises(httpx.ReadError, match="reset"):
        httpx.get(link, trust_env=False)


def test_the_proxy_refuses_and_returns_to_its_port(proxy: FaultProxy, link: str) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.get(link).content == DATA
        with proxy.refusing(), pytest.raises(httpx.ConnectError):
            client.get(link)  # on a new connection: the one that was kept is closed too
        assert client.get(link).content == DATA
    assert len(proxy.requests) == 2


def test_the_proxy_answers_itself_so_many_times(
    seaweed: S3Server, proxy: FaultProxy, behind: S3Server
) -> None:
    bucket = seaweed.make_bucket()
    busy = Answer(503, b"<Error><Code>SlowDown</Code></Error>", (("Retry-After", "1"),))
    proxy.fault = times(2, busy)
    for _ in range(2):
        with pytest.raises(ClientError) as writing:
            behind.write(bucket, "key", DATA)
        assert code_of(writing) == "SlowDown"
        assert writing.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
        assert seaweed.keys(bucket) == []
    behind.write(bucket, "key", DATA)
    assert seaweed.read(bucket, "key") == DATA
    assert len(proxy.requests) == 3


def test_the_proxy_delays(proxy: FaultProxy, link: str) -> None:
    proxy.fault = Delay(0.3)
    started = time.monotonic()
    assert httpx.get(link, trust_env=False).content == DATA
    assert time.monotonic() - started >= 0.3
    proxy.fault = Delay(None)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(link, trust_env=False, timeout=0.3)


def test_the_proxy_chooses_by_request(proxy: FaultProxy, link: str) -> None:
    proxy.fault = lambda seen: Reset() if seen.header("X-Unlucky") else Pass()
    assert httpx.get(link, trust_env=False).content == DATA
    with pytest.raises(httpx.ReadError):
        httpx.get(link, trust_env=False, headers={"X-Unlucky": "yes"})
