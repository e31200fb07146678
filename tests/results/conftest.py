"""Fixtures of the tests of result caches; see `results_site`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from machines import PATIENT_S, Machines, set_patience
from results_site import Site, Sites
from s3_servers import S3Server


@pytest.fixture
async def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sites]:
    """Makes sites in one directory of the test, which is its working directory: as processes of a server."""
    monkeypatch.chdir(tmp_path)
    made: list[Site] = []

    def make(text: str) -> Site:
        made.append(Site(text))
        return made[-1]

    yield make
    for site in made:
        await site.close()


@pytest.fixture(scope="session")
def bucket_of_machines(seaweed: S3Server) -> str:
    return seaweed.make_bucket()


@pytest.fixture
def proxies(seaweed: S3Server) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """Before the object store, for images and for answers."""
    with FaultProxy(seaweed.url) as images, FaultProxy(seaweed.url) as answers:
        yield images, answers


@pytest.fixture
def machines(
    seaweed: S3Server,
    bucket_of_machines: str,
    proxies: tuple[FaultProxy, FaultProxy],
    sites: Sites,  # closed before the proxies are, as it was made after them
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Machines:
    """Several machines with one bucket for their answers; see `machines`. They are patient."""
    set_patience(monkeypatch, PATIENT_S)
    return Machines(seaweed, bucket_of_machines, proxies, sites, tmp_path)
