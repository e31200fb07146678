"""Commands that talk to a job server, with real servers, which also die meanwhile."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_api_support import TOKEN, JobServer, job_server, new_job, picture
from loopback_ports import free_ports
from serving import ROOT

PATIENCE_S = 300
HOME = {name: text for name, text in os.environ.items() if not name.startswith(("SAFELIGHT_", "COLUMNS"))}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a picture, for sources and destinations."""
    directory = tmp_path_factory.mktemp("commands")
    (directory / "a.png").write_bytes(picture((30, 30)))
    return directory


def configuration(place: Path, *lines: str) -> str:
    roots = f'source_root "{place}"\ndestination_root "{place}"\nsource "127.0.0.1"\nsource "localhost"'
    return "jobs attempts=2 per-host=1000 {\n" + "\n".join([roots, *lines]) + "\n}\n"


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[JobServer]:
    with job_server(place / "server", configuration=configuration(place)) as started:
        yield started


@pytest.fixture
def silence() -> Iterator[str]:
    """URL of an origin that never says anything, so that jobs stay as they are."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"


def start(server: JobServer, *words: str, **options: Any) -> "subprocess.Popen[str]":
    environment = {**HOME, "PYTHONPATH": str(ROOT / "src"), "SAFELIGHT_JOBS_URL": server.url}
    return subprocess.Popen(
        [sys.executable, "-m", "safelight", "jobs", *words],
        env=environment | options.pop("environment", {}),
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        text=True,
    )


def run(server: JobServer, *words: str, code: int = 0, stdin: str = "", **environment: str) -> str:
    """What it prints; complaints as well when it is to fail."""
    process = start(server, *words, environment=environment)
    output, complaints = process.communicate(stdin, timeout=PATIENCE_S)
    assert process.returncode == code, complaints
    assert "Traceback" not in complaints
    assert code or not complaints
    return output + complaints


def exported(server: JobServer, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(server, "export", *words).splitlines()]


def jobs_of(place: Path, count: int, name: str) -> list[dict[str, Any]]:
    (place / name).mkdir(exist_ok=True)
    return [new_job(f"file://{place}/a.png", f"file://{place}/{name}/{n}.png") for n in range(count)]


def as_lines(jobs: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(job)}\n" for job in jobs)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return seen


# Submitting


def test_jobs_are_submitted_and_waited_for(server: JobServer, place: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text(as_lines(jobs_of(place, 20, "waited")))
    words = ("submit", str(tmp_path / "jobs"), "--batch", "waited", "--wait")
    assert run(server, *words).splitlines() == [
        "20 jobs accepted in batch waited",
        "20 done, 0 dead, 0 cancelled",
    ]
    assert len(list((place / "waited").iterdir())) == 20
    times = {path: path.stat().st_mtime_ns for path in (place / "waited").iterdir()}
    run(server, *words)
    assert {path: path.stat().st_mtime_ns for path in (place / "waited").iterdir()} == times, "all was done"
    assert len(exported(server, "--batch", "waited")) == 20


def test_a_batch_is_named_when_nobody_does(server: JobServer, place: Path) -> None:
    lines = as_lines(jobs_of(place, 2, "unnamed"))
    said = [run(server, "submit", "-", stdin=lines).split() for _ in range(2)]
    assert [words[:5] for words in said] == [["2", "jobs", "accepted", "in", "batch"]] * 2
    batches = {words[5] for words in said}
    assert len(batches) == 2, "somebody who wants it twice gets it twice"
    for batch in batches:
        assert len(exported(server, "--batch", batch)) == 2


def test_a_dead_job_is_told_by_the_exit_code(server: JobServer, place: Path) -> None:
    jobs = [*jobs_of(place, 1, "some-dead"), new_job(f"file://{place}/later.png", f"file://{place}/l.png")]
    output = run(server, "submit", "-", "--batch", "some-dead", "--wait", stdin=as_lines(jobs), code=1)
    assert output.splitlines()[1] == "1 done, 1 dead, 0 cancelled"
    heading, dead = run(server, "list", "--state", "dead", "--batch", "some-dead").splitlines()
    assert heading.split() == ["ID", "STATE", "ACCEPTED", "ATTEMPTS", "SOURCE", "REASON"]
    assert dead.endswith(f"file://{place}/later.png  file 'later.png' not found")
    (place / "later.png").write_bytes((place / "a.png").read_bytes())
    assert run(server, "retry", "--batch", "some-dead") == "1 jobs wait again\n"
    job_id = dead.split()[0]
    until(lambda: json.loads(run(server, "show", job_id))["state"] == "done")
    assert run(server, "retry", job_id, "nobody", code=1).splitlines() == [
        "0 jobs wait again",
        f"{job_id}: the job is done: only dead jobs can be retried",
        "nobody: no job has the id 'nobody'",
    ]


def test_what_the_server_refuses_is_named_by_its_line(server: JobServer, place: Path, tmp_path: Path) -> None:
    good, bad = (
        jobs_of(place, 2, "refused"),
        new_job("https://origin.example/a.png", "https://nobody.example/"),
    )
    (tmp_path / "jobs").write_text(as_lines([good[0], bad, good[1]]))
    output = run(server, "submit", str(tmp_path / "jobs"), "--batch", "refused", code=1)
    assert output.startswith(f"{tmp_path}/jobs:2: source: source host 'origin.example' is not allowed\n")
    assert f"\n{tmp_path}/jobs:2: outputs[0].to: " in output
    assert exported(server, "--batch", "refused") == []


def test_several_batches_in_one_file(server: JobServer, place: Path) -> None:
    jobs = [{**job, "batch": f"own-{n}"} for n, job in enumerate(jobs_of(place, 3, "own"))]
    output = run(server, "submit", "-", "--wait", stdin=as_lines(jobs))
    assert output.splitlines() == ["3 jobs accepted in 3 batches", "3 done, 0 dead, 0 cancelled"]


def test_an_interrupted_submission_is_gone_on_with(server: JobServer, place: Path) -> None:
    lines = as_lines(jobs_of(place, 1100, "interrupted"))
    process = start(server, "submit", "-", "--batch", "interrupted")
    assert process.stdin
    process.stdin.write("".join(lines.splitlines(keepends=True)[:1050]))
    process.stdin.flush()
    until(lambda: len(exported(server, "--batch", "interrupted")) == 1000)
    process.send_signal(signal.SIGINT)
    output, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (130, "")
    assert complaints == "1000 jobs are known to be accepted; to go on, repeat it with --batch interrupted\n"
    output = run(server, "submit", "-", "--batch", "interrupted", stdin=lines)
    assert output == "1100 jobs accepted in batch interrupted\n"
    jobs = exported(server, "--batch", "interrupted")  # more than a page
    assert len({job["outputs"][0]["to"] for job in jobs}) == len({job["id"] for job in jobs}) == 1100
    run(server, "cancel", "--batch", "interrupted")


def test_when_an_answer_is_missing_the_batch_is_named(server: JobServer, place: Path) -> None:
    """Somebody takes the jobs and says nothing: they may be accepted, in a batch that nobody knew before."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = start(server, "submit", "-", "--url", url)
        assert process.stdin
        process.stdin.write(as_lines(jobs_of(place, 1, "missing")))
        process.stdin.close()
        process.stdin = None
        listening.settimeout(PATIENCE_S)
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
        output, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (1, "")
    first, second, *_ = complaints.splitlines()
    assert re.fullmatch(r"0 jobs are known to be accepted; to go on, repeat it with --batch \S+", first)
    assert second == f"{url} broke off"


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two chunks, and while the jobs are done; none is lost and none is there twice."""
    ports = free_ports(1)
    monkeypatch.setattr("test_jobs_legacy.free_ports", lambda _count: ports)
    options = ("--data", str(tmp_path / "queue"))
    lines = as_lines(jobs_of(place, 1050, "killed")).splitlines(keepends=True)
    with job_server(tmp_path / "server", *options, configuration=configuration(place)) as server:
        process = start(server, "submit", "-", "--batch", "killed", "--wait")
        assert process.stdin
        process.stdin.write("".join(lines[:1025]))
        process.stdin.flush()
        until(lambda: len(exported(server, "--batch", "killed")) == 1000)
        server.kill()
    process.stdin.write("".join(lines[1025:]))
    process.stdin.close()
    process.stdin = None
    with job_server(tmp_path / "server", *options, configuration=configuration(place)):
        output, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, complaints) == (0, "")
    assert output == "1050 jobs accepted in batch killed\n1050 done, 0 dead, 0 cancelled\n"
    assert len(list((place / "killed").iterdir())) == 1050


def test_a_bar_is_on_terminals_only(server: JobServer, place: Path) -> None:
    lines = as_lines(jobs_of(place, 3, "bar"))
    assert run(server, "submit", "-", "--wait", stdin=lines).count("\n") == 2
    ours, theirs = pty.openpty()
    process = start(
        server, "submit", "-", "--wait", "--batch", "bar", stderr=theirs, environment={"TERM": "xterm"}
    )
    os.close(theirs)
    output, _ = process.communicate(lines, timeout=PATIENCE_S)
    shown = b""
    while piece := _read(ours):
        shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert b"submitting" in shown
    assert b"working" in shown
    assert output.splitlines() == ["3 jobs accepted in batch bar", "3 done, 0 dead, 0 cancelled"]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody writes there any more
        return b""


# Looking and changing


def test_lists_and_exports(server: JobServer, place: Path, tmp_path: Path) -> None:
    run(server, "submit", "-", "--batch", "many", stdin=as_lines(jobs_of(place, 120, "many")))
    file = tmp_path / "export"
    file.write_text("of yesterday")
    assert run(server, "export", "--batch", "many", "-o", str(file)) == ""
    jobs = [json.loads(line) for line in file.read_text().splitlines()]
    assert [job["outputs"][0]["to"].rpartition("/")[2] for job in jobs] == [
        f"{119 - n}.png" for n in range(120)
    ]
    listed = [json.loads(line) for line in run(server, "list", "--batch", "many", "--json").splitlines()]
    assert [job["id"] for job in listed] == [job["id"] for job in jobs[:100]]
    assert run(server, "list", "--batch", "many", "--before", "2020-01-01").count("\n") == 1
    assert run(server, "list", "--batch", "many", "--from", "2020-01-01", "--limit", "5").count("\n") == 6


def test_jobs_are_cancelled(server: JobServer, place: Path, silence: str) -> None:
    target = f"file://{place}/never.png"
    jobs = [new_job(silence, target, batch="silent", key=str(number)) for number in range(30)]
    run(server, "submit", "-", stdin=as_lines(jobs))
    until(lambda: exported(server, "--batch", "silent", "--state", "running"))
    job_id = exported(server, "--batch", "silent")[0]["id"]
    assert run(server, "cancel", job_id) == "1 jobs cancelled\n"
    assert run(server, "cancel", "--batch", "silent", "--host", "localhost") == "0 jobs cancelled\n"
    assert run(server, "cancel", "--batch", "silent") == "29 jobs cancelled\n"
    assert {job["state"] for job in exported(server, "--batch", "silent")} == {"cancelled"}
    done = run(server, "submit", "-", "--wait", stdin=as_lines(jobs_of(place, 1, "cancel-done"))).split()[5]
    (ended,) = exported(server, "--batch", done)
    output = run(server, "cancel", ended["id"], job_id, code=1)
    assert output == f"1 jobs cancelled\n{ended['id']}: the job is done\n"


def test_waiting_can_be_interrupted_and_the_jobs_go_on(server: JobServer, place: Path, silence: str) -> None:
    process = start(server, "submit", "-", "--wait", "--batch", "left")
    assert process.stdin
    process.stdin.write(as_lines([new_job(silence, f"file://{place}/never.png")]))
    process.stdin.close()
    process.stdin = None
    assert process.stdout
    until(lambda: exported(server, "--batch", "left", "--state", "running"))
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert complaints == "the jobs go on; to wait again, repeat it with --batch left\n"
    assert run(server, "cancel", "--batch", "left") == "1 jobs cancelled\n"


# Who is asked


def test_a_token_is_shown(place: Path, tmp_path: Path) -> None:
    lines = (f'token "{TOKEN}"',)
    with job_server(tmp_path / "server", configuration=configuration(place, *lines)) as server:
        for environment in ({}, {"SAFELIGHT_JOBS_TOKEN": "wrong"}):
            output = run(server, "list", code=1, **environment)
            assert output.splitlines()[1] == "  set SAFELIGHT_JOBS_TOKEN"
        given = {"SAFELIGHT_JOBS_TOKEN": TOKEN}
        jobs = as_lines(jobs_of(place, 1, "token"))
        assert run(server, "submit", "-", "--wait", stdin=jobs, **given).endswith(
            "1 done, 0 dead, 0 cancelled\n"
        )
        assert run(server, "list", "--token", TOKEN).count("\n") == 2


def test_another_kind_of_server(place: Path, tmp_path: Path) -> None:
    """One that has jobs only in the older server's words."""
    with job_server(tmp_path / "server", "--legacy") as server:
        for words in (["list"], ["export"], ["cancel", "--all"], ["show", "x"]):
            output = run(server, *words, code=1)
            assert output.splitlines()[0] == f"{server.url} does not answer as a job server does"
        output = run(server, "submit", "-", stdin=as_lines(jobs_of(place, 1, "legacy")), code=1)
        assert f"{server.url} does not answer as a job server does" in output.splitlines()
