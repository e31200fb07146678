"""`safelight jobs` and its commands as far as no server is needed: what is sent, and what is refused."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from loopback_ports import free_ports

from safelight.cli import main
from safelight.cli.jobs import COMMANDS, lines
from safelight.cli.jobs.client import connected
from safelight.errors import ConfigError
from safelight.server.job_api.messages import Fault
from safelight.server.job_api.reading import LINES, MAX_BODY_BYTES, MAX_JOBS, read_jobs


def run(*words: str, stdin: bytes | str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *words], input=stdin, env=environment)


def job(name: str = "a", **rest: Any) -> dict[str, Any]:
    output = {"make": "fit,10,10,png", "to": f"https://target.example/{name}"}
    return {"source": f"https://origin.example/{name}.png", "outputs": [output], **rest}


def write(path: Path, *jobs: Any) -> str:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in jobs))
    return str(path)


def sent(*names: str, batch: str = "b") -> list[dict[str, Any]]:
    """The jobs of files as the server reads them."""
    return [
        msgspec.to_builtins(one)
        for chunk in lines.chunks(names, batch)
        for one in read_jobs(chunk.body, LINES)[0]
    ]


# What is sent


def test_lines_are_sent_as_they_are_with_a_batch_and_a_key(tmp_path: Path) -> None:
    parts = {"method": "fit", "width": 3, "format": "png", "options": {"quality": 5}, "edits": ["rotate,90"]}
    form = {"url": "https://t.example/", "form": {"field": "f", "file_name": "n.png"}}
    whole = job("whole", priority=5, webhook="https://h.example/", outputs=[{"make": parts, "to": form}])
    plain, in_parts = sent(write(tmp_path / "jobs", job(), "", "  \t", whole))
    assert (plain["source"], plain["batch"]) == ("https://origin.example/a.png", "b")
    assert list(plain["outputs"]) == job()["outputs"]
    assert (in_parts["priority"], in_parts["webhook"]) == (5, "https://h.example/")
    assert in_parts["outputs"][0]["to"] == form
    assert in_parts["outputs"][0]["make"] == {**parts, "height": None, "edits": ("rotate,90",)}


def test_a_line_has_the_same_key_however_it_is_written(tmp_path: Path) -> None:
    turned = json.dumps(dict(reversed(job().items())), indent=None, separators=(" ,  ", " :"))
    first = sent(write(tmp_path / "first", job(), job("other")))
    again = sent(write(tmp_path / "again", job("other"), turned, job()))
    assert [one["key"] for one in again] == [first[1]["key"], first[0]["key"], first[0]["key"]]
    assert len({one["key"] for one in first}) == 2


def test_another_batch_has_other_keys(tmp_path: Path) -> None:
    name = write(tmp_path / "jobs", job())
    assert sent(name, batch="one")[0]["key"] != sent(name, batch="two")[0]["key"]


def test_what_a_line_says_itself_stays(tmp_path: Path) -> None:
    (one,) = sent(write(tmp_path / "jobs", job(key="mine", batch="own")))
    assert (one["key"], one["batch"]) == ("mine", "own")
    (chunk,) = lines.chunks([str(tmp_path / "jobs")], "b")
    assert chunk.lines[0].batch == "own"


def test_chunks_are_within_the_limits_of_the_server(tmp_path: Path) -> None:
    long = "x" * 8000
    name = write(
        tmp_path / "jobs",
        *(job(str(number)) for number in range(2500)),
        *(job(f"{number}{long}") for number in range(700)),
    )
    found = list(lines.chunks([name], "b"))
    assert sum(len(chunk.lines) for chunk in found) == 3200
    assert max(len(chunk.lines) for chunk in found) == lines.CHUNK_JOBS <= MAX_JOBS
    assert max(len(chunk.body) for chunk in found) <= lines.CHUNK_BYTES < MAX_BODY_BYTES
    assert lines.check([name], "b") == 3200


# Complaints


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not valid JSON: "),
        ("[]", "no jobs"),
        (f"[{json.dumps(job())}]", "expected one job, in braces"),
        ("17", "Expected `object`, got `int`"),
        (json.dumps({"source": "https://o.example/"}), "Object missing required field `outputs`"),
        (json.dumps(job(surprise=1)), "Object contains unknown field `surprise`"),
        (json.dumps(job(priority=101)), "priority: Expected `int` <= 100"),
        (json.dumps(job(outputs=[{"make": "fit", "to": 5}])), r"outputs[0].to: Expected "),
        ('{"source": "a", "source": "b", "outputs": [{"make": "m", "to": "t"}]}', "'source' is there twice"),
        (json.dumps(job(key="\ud800")), "not valid "),
        ('{"source":' * 100_000, "source: Expected `str`"),
        (json.dumps(job("x" * (1 << 20))), "longer than 1048576 bytes"),
    ],
)
def test_a_line_that_is_no_job_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    """And nothing is sent: there is no server that it could be sent to."""
    name = write(tmp_path / "jobs", job(), "", line)
    done = run("submit", name, "--url", "http://127.0.0.1:1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}:3: ")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_all_lines_are_checked_before_one_is_sent(tmp_path: Path) -> None:
    first = write(tmp_path / "first", job(), 1, 2)
    second = write(tmp_path / "second", job(), *range(50))
    done = run("submit", first, second, "--url", "http://127.0.0.1:1")
    shown = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in shown[:3]] == [f"{first}:2", f"{first}:3", f"{second}:2"]
    assert (len(shown), shown[-1]) == (lines.MAX_COMPLAINTS + 1, "there may be more")


def test_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("submit", "-", stdin=b'\n{"source": "\xff"}\n')
    assert (done.exit_code, done.stderr.partition(": ")[0]) == (1, "standard input:2")


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("submit", name)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"cannot read '{name}': ")


def test_faults_that_a_server_finds_are_placed(tmp_path: Path) -> None:
    name = write(tmp_path / "jobs", job("a"), "", job("b"))
    (chunk,) = lines.chunks([name], "b")
    faults = [
        Fault("jobs[1].outputs[0].to", "is not allowed"),
        Fault("jobs[0]", "bad"),
        Fault("jobs[7]", "unknown"),
        Fault("body", "too large"),
    ]
    assert chunk.complaints(faults) == [
        f"{name}:3: outputs[0].to: is not allowed",
        f"{name}:1: bad",
        "jobs[7]: unknown",
        "body: too large",
    ]


# The command line


def test_all_commands_are_there() -> None:
    shown = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in shown
        assert f"Usage: main jobs {name}" in run(name, "--help").stdout


def test_the_token_is_better_in_the_environment() -> None:
    shown = " ".join(run("list", "--help").stdout.split())
    assert "Prefer the variable" in shown
    assert "SAFELIGHT_JOBS_TOKEN" in shown
    assert "SAFELIGHT_JOBS_URL" in shown


def test_no_such_command() -> None:
    done = run("sumbit", "x")
    assert done.exit_code == 2
    assert "No such command 'sumbit'" in done.stderr


def test_options_of_the_server_are_not_those_of_commands() -> None:
    done = run("--legacy", "list")
    assert done.exit_code == 2
    assert "'--legacy' is an option of the server, not of 'list'" in done.stderr
    assert "--legacy" not in run("list", "--url", "http://127.0.0.1:1", SAFELIGHT_LEGACY="1").stderr


@pytest.mark.parametrize("command", ["retry", "cancel"])
@pytest.mark.parametrize("words", [(), ("id", "--all"), ("id", "--batch", "b"), ("--batch", "b", "--all")])
def test_what_is_changed_must_be_clear(command: str, words: tuple[str, ...]) -> None:
    done = run(command, *words)
    assert done.exit_code == 2
    assert "name the jobs by ID, or by options such as --batch, or say --all" in done.stderr


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_times_that_are_none(text: str) -> None:
    done = run("list", "--from", text)
    assert done.exit_code == 2
    assert "2026-11-22T14:30:00+01:00" in done.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("export",), ("retry", "--all"), ("submit",)])
def test_nobody_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    (port,) = free_ports(1)
    if command == ("submit",):
        command = ("submit", write(tmp_path / "jobs", job()))
    done = run(*command, SAFELIGHT_JOBS_URL=f"http://user:secret@127.0.0.1:{port}/")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == f"no job server can be reached at http://127.0.0.1:{port}"
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_an_id_that_would_be_lost_on_the_way_is_not_sent(command: str, job_id: str) -> None:
    """Retrying the job '.' would be retrying all: `/jobs/./retry` is `/jobs/retry`."""
    (port,) = free_ports(1)
    result = run(command, job_id, "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"no job has the id '{job_id}'" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://a.example", "http://", "http://a.example:x"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError), connected(url, None):
        pass
    assert run("list", "--url", url).exit_code == 1


def test_a_token_that_is_none() -> None:
    done = run("list", SAFELIGHT_JOBS_TOKEN="ünmöglich\n")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (
        1,
        "the token has characters that no token has, such as spaces or line ends",
    )


def test_an_export_that_fails_leaves_the_file_there(tmp_path: Path) -> None:
    file = tmp_path / "jobs"
    file.write_text("of yesterday")
    assert run("export", "-o", str(file), "--url", "http://127.0.0.1:1").exit_code == 1
    assert file.read_text() == "of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["jobs"]


@pytest.mark.parametrize("name", ["none/jobs", "."])
def test_an_export_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("export", "-o", name, "--url", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"cannot write '{name}': ")
