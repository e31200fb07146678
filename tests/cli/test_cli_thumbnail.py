"""`safelight thumbnail`: real runs of the command on real files."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from io import BytesIO
from pathlib import Path

import click
import pytest
from PIL import Image

from safelight.batch.naming import VARIABLES
from safelight.cli import identify, thumbnail

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}
COMMAND = [sys.executable, "-m", "safelight", "thumbnail"]
CROP = "crop,16,12,jpeg"

WITHOUT_PRIVILEGES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: permissions count for root, too
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails for others, who lack them
os.execv(sys.argv[1], sys.argv[1:])
"""
NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("astronaut.jpg", "coffee.jpg", "rocket.jpg"):
        place(f"photos/{name}", name)
    return tmp_path


def place(name: str, source: str = "rocket.jpg") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / source, name)


def run(
    *arguments: str, stdin: bytes = b"", before: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*before, *COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    )


def complaints(done: "subprocess.CompletedProcess[bytes]") -> list[str]:
    return done.stderr.decode().splitlines()


def size(name: str) -> tuple[str | None, int, int]:
    with Image.open(name) as image:
        return image.format, *image.size


def files(top: str = ".") -> list[str]:
    return sorted(str(path) for path in Path(top).rglob("*") if path.is_file())


# --- what it makes


def test_results_lie_beside_the_inputs() -> None:
    before = {name: Path(name).read_bytes() for name in files()}
    done = run(CROP, "photos")
    assert done.returncode == 0
    assert done.stdout == b""
    assert complaints(done)[0].startswith("3 done, 0 failed; ")
    assert files() == sorted(
        [*before, *(f"photos/{n}.crop-16x12.jpg" for n in ("astronaut", "coffee", "rocket"))]
    )
    assert size("photos/coffee.crop-16x12.jpg") == ("JPEG", 16, 12)
    assert before == {name: Path(name).read_bytes() for name in before}


def test_several_results_of_one_decode_in_a_tree_like_that_of_the_inputs() -> None:
    place("photos/2024/May/cat.png", "chelsea.png")
    done = run(CROP, "--also", "fit,20,20,webp,quality:70!rotate,90", "photos/", "-o", "out/", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(files("out")) == 8
    assert size("out/2024/May/cat.crop-16x12.jpg") == ("JPEG", 16, 12)
    assert size("out/2024/May/cat.fit-20x20-quality-70-rotate-90.webp") == ("WEBP", 13, 20)


def test_names_that_only_the_result_knows() -> None:
    done = run(
        "fit,20,20,input",
        "photos",
        "-o",
        "out/#{image_width}x#{image_height}-#{digest}.#{image_mime_extension}",
    )
    assert done.returncode == 0
    assert sorted(name[:9] for name in files("out")) == ["out/20x13", "out/20x14", "out/20x20"]


def test_standard_input_to_standard_output() -> None:
    done = run("fit,20,20,png", "-", stdin=(DATA / "rocket.jpg").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert Image.open(BytesIO(done.stdout)).size == (20, 14)


def test_a_file_to_standard_output_and_standard_input_to_a_file() -> None:
    done = run(CROP, "photos/coffee.jpg", "-o", "-")
    assert Image.open(BytesIO(done.stdout)).size == (16, 12)
    done = run(CROP, "-", "-o", "out/#{basename}.jpg", stdin=done.stdout)
    assert done.returncode == 0
    assert size("out/stdin.jpg") == ("JPEG", 16, 12)


def test_a_pipe_with_a_name() -> None:
    os.mkfifo("pipe")
    process = subprocess.Popen([*COMMAND, CROP, "pipe", "-o", "out.jpg", "-q"], env=ENVIRONMENT)
    Path("pipe").write_bytes((DATA / "rocket.jpg").read_bytes())
    assert process.wait(60) == 0
    assert size("out.jpg") == ("JPEG", 16, 12)


def test_orientation_is_applied_unless_told_otherwise() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save("turned.jpg", exif=exif)
    run("fit,20,20,jpeg", "turned.jpg", "-o", "yes.jpg")
    run("fit,20,20,jpeg", "turned.jpg", "-o", "no.jpg", "--no-auto-orient")
    assert size("yes.jpg") == ("JPEG", 10, 20)
    assert size("no.jpg") == ("JPEG", 20, 10)


# --- what is there already


def test_existing_results_are_refused_skipped_or_replaced() -> None:
    place("out/rocket.jpg", "coffee.jpg")
    before = Path("out/rocket.jpg").read_bytes()
    arguments = [CROP, "photos", "-o", "out/#{filename}"]
    done = run(*arguments)
    assert done.returncode == 1
    assert complaints(done)[0] == (
        "photos/rocket.jpg: 'out/rocket.jpg' exists already (--overwrite or --skip-existing)"
    )
    assert len(files("out")) == 3
    assert Path("out/rocket.jpg").read_bytes() == before
    done = run(*arguments, "--skip-existing")
    assert done.returncode == 0
    assert complaints(done)[0].startswith("0 done, 0 failed, 3 skipped (3 results exist); ")
    assert Path("out/rocket.jpg").read_bytes() == before
    done = run(*arguments, "--overwrite")
    assert done.returncode == 0
    assert size("out/rocket.jpg") == ("JPEG", 16, 12)


def test_only_the_missing_results_of_an_input_are_made() -> None:
    place("out/rocket.crop-16x12.jpg")
    before = Path("out/rocket.crop-16x12.jpg").read_bytes()
    done = run(CROP, "--also", "fit,8,8,png", "photos/rocket.jpg", "-o", "out/", "--skip-existing")
    assert done.returncode == 0
    assert size("out/rocket.fit-8x8.png") == ("PNG", 8, 5)
    assert Path("out/rocket.crop-16x12.jpg").read_bytes() == before


def test_a_second_run_does_not_make_thumbnails_of_thumbnails() -> None:
    run(CROP, "photos")
    done = run("fit,8,8,png", "photos")
    assert done.returncode == 0
    assert complaints(done)[0].startswith("3 done, 0 failed, 3 skipped (3 results of earlier runs); ")
    run(CROP, ".", "-o", "#{dirname}/#{basename}-s.jpg")
    done = run(CROP, ".", "-o", "#{dirname}/#{basename}-s.jpg", "--skip-existing")
    assert "3 results exist, 6 results of earlier runs, 3 results of this run" in complaints(done)[0]
    assert "photos/rocket-s-s.jpg" not in files()


def test_in_place_if_that_is_wanted() -> None:
    assert run(CROP, "photos", "-o", "#{path}").returncode == 1
    assert size("photos/rocket.jpg") == ("JPEG", 640, 427)
    assert run(CROP, "photos", "-o", "#{path}", "--overwrite").returncode == 0
    assert size("photos/rocket.jpg") == ("JPEG", 16, 12)


def test_colliding_names_are_found_before_any_work() -> None:
    place("photos/rocket.png", "chelsea.png")
    done = run(CROP, "photos")
    assert done.returncode == 1
    assert complaints(done)[0] == (
        "'photos/rocket.jpg' and 'photos/rocket.png' would both become 'photos/rocket.crop-16x12.jpg'"
    )
    assert len(files()) == 4


def test_colliding_names_that_come_late_cost_one_file() -> None:
    done = run(CROP, "photos", "-o", "out/#{image_width}.jpg", "--overwrite")
    assert done.returncode == 1
    assert complaints(done)[-1].startswith("1 done, 2 failed")
    assert "'out/16.jpg' is the name of another result of this run" in complaints(done)[0]


# --- what goes wrong


def test_a_directory_of_junk_costs_the_junk_only() -> None:
    whole = (DATA / "rocket.jpg").read_bytes()
    Path("photos/sub").mkdir()
    Path("photos/sub/truncated.jpg").write_bytes(whole[:300])
    Path("photos/sub/text.png").write_text("no image")
    Path("photos/sub/empty.gif").touch()
    Path("photos/sub/garbage.webp").write_bytes(b"RIFF\x10\0\0\0WEBP" + os.urandom(50))
    Path("photos/sub/bomb.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='9999999' height='9999999'/>"
    )
    Path("photos/sub/broken.jpg").symlink_to("nowhere")
    Path("photos/sub/readme.txt").touch()
    os.mkfifo("photos/sub/pipe.jpg")
    done = run(CROP, "photos", "-o", "out/")
    assert done.returncode == 1
    *failures, summary = complaints(done)
    reasons = dict(line.removeprefix("photos/sub/").split(": ", 1) for line in failures)
    assert set(reasons) == {
        "truncated.jpg",
        "text.png",
        "empty.gif",
        "garbage.webp",
        "bomb.svg",
        "broken.jpg",
    }
    assert reasons["empty.gif"] == "empty file"
    assert reasons["broken.jpg"] == "No such file or directory"
    assert "unsupported media type" in reasons["text.png"]
    assert summary.startswith("3 done, 6 failed, 2 skipped (2 no image by name); ")
    assert len(files("out")) == 3


def test_failures_are_listed_although_quiet() -> None:
    done = run(CROP, "missing.jpg", "photos/rocket.jpg", "-q")
    assert done.returncode == 1
    assert complaints(done) == ["missing.jpg: No such file or directory"]
    assert Path("photos/rocket.crop-16x12.jpg").exists()


def test_a_result_that_fails_does_not_take_the_other_with_it() -> None:
    done = run(CROP, "--also", "fit,9,9,jpeg!rotate,abc", "photos/rocket.jpg", "-o", "out/", "-q")
    assert done.returncode == 1
    (complaint,) = complaints(done)
    assert complaint.startswith("photos/rocket.jpg: fit,9,9,jpeg!rotate,abc: ")
    assert files("out") == ["out/rocket.crop-16x12.jpg"]


UNPRIVILEGED = (sys.executable, "-c", WITHOUT_PRIVILEGES)


def test_unreadable_files_and_directories_are_failures() -> None:
    Path("photos/sub").mkdir()
    Path("photos/coffee.jpg").chmod(0)
    Path("photos/sub").chmod(0)
    done = run(CROP, "photos", "-o", "out/", before=UNPRIVILEGED)
    Path("photos/sub").chmod(0o755)
    assert done.returncode == 1
    assert sorted(complaints(done)[:2]) == [
        "photos/coffee.jpg: Permission denied",
        "photos/sub: Permission denied",
    ]
    assert len(files("out")) == 2


def test_a_directory_that_cannot_be_written_to_is_told(directory: Path) -> None:
    Path("out").mkdir()
    Path("out").chmod(0o555)
    done = run(CROP, "photos", "-o", "out/new/", before=UNPRIVILEGED)
    assert (done.returncode, complaints(done)) == (1, [f"'{directory}/out' cannot be written to"])
    Path("photos").chmod(0o555)
    done = run(CROP, "photos", before=UNPRIVILEGED)
    Path("photos").chmod(0o755)
    assert done.returncode == 1
    assert "photos/coffee.jpg: 'photos/coffee.crop-16x12.jpg': Permission denied" in complaints(done)
    assert len(files()) == 3


def test_names_of_any_kind() -> None:
    odd = ["a\nb.jpg", NOT_UTF8, "ä €.jpg", "-dash.jpg", "#{path}.jpg", "a'b\"c.jpg"]
    for name in odd:
        place(f"odd/{name}")
    Path("odd/bad\n\x1b[31m" + NOT_UTF8).write_text("no image")
    done = run(CROP, "odd", "-o", "out/#{relative_path}")
    assert done.returncode == 1
    assert sorted(files("out")) == sorted(f"out/{name}" for name in odd)
    assert complaints(done)[0].startswith("odd/bad\\n\\x1b[31mcaf\\xe9.jpg: unsupported media type")
    assert len(complaints(done)) == 2


def test_links_below_the_output_directory_lead_nowhere_else() -> None:
    place("photos/sub/cat.jpg")
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/sub").symlink_to("../elsewhere")
    done = run(CROP, "photos", "-o", "out/#{relative_path}")
    assert done.returncode == 1
    assert complaints(done)[0] == "photos/sub/cat.jpg: 'out/sub/cat.jpg' is a link that leads out of 'out/'"
    assert files("elsewhere") == []


def test_an_input_beyond_the_memory_limit() -> None:
    Path("big.jpg").write_bytes((DATA / "rocket.jpg").read_bytes() + bytes(1 << 20))
    done = run(CROP, "big.jpg", "photos/rocket.jpg", "--limit-memory", "1", "-q")
    assert complaints(done) == ["big.jpg: memory limit exceeded"]
    done = run(CROP, "-", "--limit-memory", "1", stdin=Path("big.jpg").read_bytes())
    assert (done.returncode, complaints(done)) == (1, ["-: memory limit exceeded"])


def test_an_image_that_takes_too_long() -> None:
    Image.effect_noise((3000, 3000), 90).save("slow.png")
    arguments = ["fit,3000,3000,avif", "slow.png", "photos/rocket.jpg", "-o", "out/#{basename}", "-j", "1"]
    done = run(*arguments, "--transform-timeout", "0.05", "-q")
    assert done.returncode == 1
    assert "slow.png: image processing took too long" in complaints(done)


# --- wrong use


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crop,16,jpeg", "photos"], "missing format argument in spec 'crop,16,jpeg'"),
        (["crop,16,12,xyz", "photos"], "unknown format: XYZ"),
        (["crip,16,12,jpeg", "photos"], "thumbnail method 'crip' is not supported in spec 'crip,16,12,jpeg'"),
        (["fit,8,8,png!foo", "photos"], "no edit with name 'foo' is supported in spec 'fit,8,8,png!foo'"),
        (["fit,0,8,png", "photos"], "at least one image dimension is zero: 0x8 in spec 'fit,0,8,png'"),
        ([CROP, "photos", "--also", "x"], "missing width argument in spec 'x'"),
        ([CROP, "photos", "-o", "#{widht}"], "unknown variable 'widht' in '#{widht}': did you mean 'width'?"),
        ([CROP, "photos", "-o", "-"], "only one input can go to standard output"),
        ([CROP, "a", "b", "-o", "-"], "only one input can go to standard output"),
        ([CROP, "-", "--also", CROP], "only one SPEC can go to standard output"),
        ([CROP, "-", "photos"], "say with -o where the result of standard input goes"),
        ([CROP, "-", "-", "-o", "out/"], "standard input can be read once only"),
        ([CROP, "a", "--overwrite", "--skip-existing"], "--overwrite and --skip-existing exclude each other"),
        ([CROP], "Missing argument 'FILE...'."),
    ],
)
def test_wrong_use_is_told_before_any_work(arguments: list[str], message: str) -> None:
    before = files()
    done = run(*arguments)
    assert done.returncode == 2
    assert complaints(done)[-1] == f"Error: {message}"
    assert files() == before


def test_the_only_input_fails_on_the_way_to_standard_output() -> None:
    done = run(CROP, "-", stdin=b"no image")
    assert (done.returncode, done.stdout) == (1, b"")
    assert complaints(done) == ["-: unsupported media type: no decode delegate for this image format"]


# --- dry runs


def test_a_dry_run_touches_nothing() -> None:
    place("out/rocket.jpg")
    before = files()
    done = run("fit,9,9,input", "photos", "-o", "out/#{filename}", "-n")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "photos/astronaut.jpg -> out/astronaut.jpg",
        "photos/coffee.jpg -> out/coffee.jpg",
        "photos/rocket.jpg -> out/rocket.jpg (exists: refused)",
    ]
    done = run("fit,9,9,input", "photos/rocket.jpg", "-o", "new/", "--dry-run")
    assert (done.returncode, done.stdout) == (
        0,
        b"photos/rocket.jpg -> new/rocket.fit-9x9.#{image_mime_extension}\n",
    )
    assert files() == before
    assert not Path("new").exists()


# --- signals and terminals


def start_long_run(count: int = 400) -> "subprocess.Popen[bytes]":
    """The command, at work on many files, with some of them done."""
    for number in range(count):
        os.link("photos/astronaut.jpg", f"photos/{number:04}.jpg")
    process = subprocess.Popen(
        [*COMMAND, "fit,400,400,png", "photos", "-o", "out/", "-j", "2"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(files("out")) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished_and_leaves_nothing_else(number: signal.Signals) -> None:
    process = start_long_run()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    *failures, summary = errors.decode().splitlines()
    assert failures == []
    assert summary.startswith("interrupted: ")
    made = [path for path in Path("out").rglob("*") if path.is_file()]
    assert int(summary.split()[1]) == len(made) < 400
    for path in made:
        with Image.open(path) as image:
            image.load()


def test_a_signal_that_comes_several_times_at_once_is_one() -> None:
    process = start_long_run()
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith(b"interrupted: ")


def test_a_kill_leaves_no_partial_file() -> None:
    process = start_long_run()
    process.kill()
    process.communicate(timeout=20)
    for path in Path("out").rglob("*"):
        with Image.open(path) as image:
            image.load()


def test_ctrl_c_while_waiting_for_standard_input() -> None:
    process = subprocess.Popen(
        [*COMMAND, CROP, "-", "-o", "out.jpg"], env=ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stdin
    process.stdin.close()
    assert process.stderr
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def on_terminal(*arguments: str) -> tuple[int, bytes]:
    """Exit code and what a terminal of 100 columns shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**ENVIRONMENT, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while process.poll() is None or select.select([ours], [], [], 0.1)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return process.wait(), shown


def test_a_bar_is_shown_on_a_terminal_only() -> None:
    for number in range(60):
        os.link("photos/astronaut.jpg", f"photos/{number:04}.jpg")
    Path("photos/bad.jpg").write_text("no image")
    code, shown = on_terminal("fit,300,300,png", "photos", "-o", "out/")
    assert code == 1
    assert "━".encode() in shown
    assert b"/64" in shown
    assert b"\x1b[?25h" in shown  # the cursor is back
    assert shown.splitlines()[-1].startswith(b"63 done, 1 failed; ")
    code, shown = on_terminal("fit,300,300,png", "photos", "-o", "out2/", "--quiet")
    assert code == 1
    assert shown.splitlines() == [
        b"photos/bad.jpg: unsupported media type: no decode delegate for this image format"
    ]


def test_no_image_is_written_to_a_terminal() -> None:
    code, shown = on_terminal(CROP, "photos/rocket.jpg", "-o", "-")
    assert code == 2
    assert b"refusing to write an image to a terminal" in shown


# --- the documentation


DOCUMENT = (ROOT / "docs" / "batch.md").read_text("utf-8")
TIMES = re.compile(r"[0-9.]+ s, [0-9.]+ files/s, [0-9]+ MP/s")


def test_the_sessions_of_the_documentation(directory: Path) -> None:
    """One session after the other, in one directory."""
    Path("photos/readme.txt").touch()
    Path("photos/people").mkdir()
    Path("photos/astronaut.jpg").rename("photos/people/astronaut.jpg")
    script = directory / "bin" / "safelight"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m safelight "$@"\n')
    script.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{script.parent}:{os.environ['PATH']}", "LC_ALL": "C"}
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", DOCUMENT, re.MULTILINE)
    assert len(commands) > 8
    for command, expected in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        shown = TIMES.sub("", done.stdout.decode())
        assert shown.strip() == TIMES.sub("", expected).strip(), command


def test_every_variable_is_documented() -> None:
    documented = set(re.findall(r"`#\{(\w+)\}`", DOCUMENT))
    assert set(VARIABLES) <= documented


@pytest.mark.parametrize("command", [thumbnail.command, identify.command])
def test_every_option_is_documented(command: click.Command) -> None:
    options = [option for option in command.params if isinstance(option, click.Option)]
    for name in [name for option in options for name in (*option.opts, *option.secondary_opts)]:
        assert re.search(rf"^\|.*`{name}[ `]", DOCUMENT, re.MULTILINE), name
