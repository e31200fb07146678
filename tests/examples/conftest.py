"""Every example is loaded without a warning and used as its comments say, on files and on S3."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from example_places import Buckets, Files
from example_support import EXAMPLES, Ask
from tally import Tally

from safelight.api import build, load_config
from safelight.engine.inline import InlineEngine
from safelight.image.settings import ImageSettings


@pytest.fixture
async def ask(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ask]:
    """Requests to the example that the test is about, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    Path("cache").mkdir()
    name, kind = request.param
    fixtures = request.getfixturevalue
    text = (EXAMPLES / name).read_text()
    archive = "moto" if 's3 "archive"' in text else "seaweed"
    place = Files() if kind == "files" else Buckets(fixtures("seaweed"), fixtures(archive))
    config = load_config(place.fitted(text), name)
    assert config.warnings == ()
    engine = InlineEngine(ImageSettings(), workers=1)
    api = build(config, engine, Tally())
    await engine.start()
    yield Ask(api, place)
    await engine.close()
    for client in api.resources.s3.values():
        await client.close()
