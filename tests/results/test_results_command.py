"""`safelight cache` beside a server, with answers that are on this machine only."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from results_site import Sites

from safelight.cli.cache import command
from safelight.results.epochs import FILE_NAME, Epochs

TAGGED = 'get "x" { cache root="cache" tag="red, #{path}"; output_text "a"; }'


def run(text: str, *arguments: str) -> Result:
    file = Path("command.sdl")
    file.write_text(text)
    return CliRunner().invoke(command, [arguments[0], "--config", str(file), *arguments[1:]])


@pytest.mark.parametrize(
    ("tags", "state"), [("blue,red", "fwd=miss"), (" red ", "fwd=miss"), ("blue, green", "hit")]
)
async def test_several_tags_may_be_named_as_the_cache_does(sites: Sites, tags: str, state: str) -> None:
    site = sites(TAGGED)
    await site.state("/x/a")
    done = await asyncio.to_thread(run, TAGGED, "purge", "--tag", tags)
    assert done.exit_code == 0, done.output
    assert await site.state("/x/a") == state


@pytest.mark.parametrize("option", [("--tag", ""), ("--tag", " , "), ("--url", "")])
def test_what_names_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run(TAGGED, "purge", *option)
    assert refused.exit_code == 2
    assert f"{option[0]} names nothing" in refused.output


def test_a_purge_says_where_it_has_found_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from another working directory than that of the server."""
    monkeypatch.chdir(tmp_path)
    done = run(TAGGED, "purge", "--tag", "red")
    assert done.exit_code == 0
    assert done.output == f"cache: nothing dropped, as no server has kept answers in {tmp_path}/cache\n"


@pytest.mark.parametrize("arguments", [("stats",), ("purge", "--all")])
def test_a_configuration_without_caches_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run("get { output_ok; }", *arguments)
    assert refused.exit_code == 1
    assert str(refused.exception) == "command.sdl: no endpoint keeps answers: there is no 'cache' statement"


@pytest.mark.parametrize("arguments", [("stats",), ("purge", "--tag", "red")])
def test_a_command_leaves_a_cache_that_outlives_a_start_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Beside a server that was stopped in order."""
    monkeypatch.chdir(tmp_path)
    epochs = Epochs(Path("cache"))
    identity = epochs.identity
    epochs.close()
    assert run(TAGGED, *arguments).exit_code == 0
    with Path("cache", FILE_NAME).open("r+b") as file:
        file.seek(32)
        file.write(b"another boot ...")
    assert Epochs(Path("cache")).identity == identity
