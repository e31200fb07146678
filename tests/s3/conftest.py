"""What the tests of S3 storage stand on: clients, a bucket, and a proxy that fails in front of SeaweedFS."""

from collections.abc import AsyncIterator, Iterator

import pytest
from fault_proxy import FaultProxy
from s3_clients import Clients
from s3_servers import S3Server


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    made = Clients()
    yield made
    await made.close()


@pytest.fixture
def proxy(seaweed: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def bucket_of_session(seaweed: S3Server) -> str:
    return seaweed.make_bucket()


@pytest.fixture
def bucket(seaweed: S3Server, bucket_of_session: str) -> Iterator[str]:
    """An empty one at SeaweedFS, which needs a fifth of a second to store the first object in a new one."""
    yield bucket_of_session
    for key in seaweed.keys(bucket_of_session):
        seaweed.delete(bucket_of_session, key)
