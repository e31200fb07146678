"""Fixtures of the tests of result caches; see `results_site`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from results_site import Site, Sites


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
