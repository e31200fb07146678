"""A job that kills the image worker which does it (reference/imgserve, j055)."""

from pathlib import Path

import pytest
from job_api_support import HERE, allowed, api_client, bodies, job_server, new_job, picture
from job_servers import HttpServer, reply

DEADLY = """
import os

from safelight.plugin import edit


@edit("die")
def die(image, options, thumbnail_spec):
    '''fit,10,10,png!die'''
    os.abort()
"""


@pytest.mark.covers("j055")
async def test_a_job_that_kills_its_image_worker_harms_nobody_else(tmp_path: Path, web: HttpServer) -> None:
    """It ends as a dead letter that says so; jobs before, beside and after it are done by the same server."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "deadly.py").write_text(DEADLY)
    web.answers = {"/a.png": reply(200, picture()), "/out": reply(201), "/never": reply(201)}
    source = f"{web.url}/a.png"
    with job_server(tmp_path / "server", "--plugins", str(plugins), configuration=allowed(*HERE)) as server:
        async with api_client(server) as api:
            deadly = new_job(source, f"{web.url}/never", make="fit,10,10,png!die")
            harmless = new_job(source, f"{web.url}/out")
            ids = await api.submit_all([harmless, deadly, harmless, deadly, harmless])
            states = [await api.ended(job_id) for job_id in ids]
            last = await api.ended((await api.submit(harmless))["id"])
        assert [view["state"] for view in states] == ["done", "dead", "done", "dead", "done"]
        assert {states[1]["reason"], states[3]["reason"]} == {"image cannot be decoded"}
        assert last["state"] == "done"
        assert server.process.poll() is None
        assert server.log.count("image worker died (reason: crash") == 2
    assert len(bodies(web, "/out")) == 4
    assert not bodies(web, "/never")
