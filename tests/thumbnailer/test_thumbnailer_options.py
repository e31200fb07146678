"""The command line of `httpthumbnailer`, and what its options stand for (reference/thumbnailer 12)."""

import tomllib
from pathlib import Path

import pytest
from thumbnailer_support import ROOT, Commands

from safelight import __version__
from safelight.cli.dropin.listeners import expand_listener
from safelight.cli.dropin.options import UsageError, parse
from safelight.cli.httpthumbnailer import INTERLACE_NAMES, PROGRAM, image_settings
from safelight.errors import ConfigError
from safelight.image.save import INTERLACE_NAMES as KNOWN_INTERLACE_NAMES
from safelight.image.speed import SPEEDS, Speed

OPTIONS = PROGRAM.all_options()
TABLE = """
formats F; limit-disk; plugins; no-optimization; reload; no-upscale-fix; no-downsample; log-file l;
syslog-facility s; access-log-file a; xid-header x; pid-file p; foreground f; listener L; user u;
worker-processes w; worker-timeout t; limit-memory; verbose v; debug d; perf-stats V; help h; version
"""
"""Names and short forms of the older server."""


def values(*words: str) -> dict[str, object]:
    return dict(parse(words, OPTIONS).values)


def test_every_option_of_the_older_server_is_there() -> None:
    expected = {
        (name, short[0] if short else None) for name, *short in (line.split() for line in TABLE.split(";"))
    }
    ours = {(option.name, option.short) for option in OPTIONS}
    assert expected <= ours
    assert {name for name, _ in ours - expected} == {
        "auto-orient",
        "http-workers",
        "speed",
        "transform-timeout",
    }


def test_defaults() -> None:
    found = values()
    assert found["listener"] == ["127.0.0.1:3100"]
    assert found["plugins"] == ["/usr/share/httpthumbnailer/plugins"]
    assert {name: found[name] for name in ("log-file", "access-log-file", "pid-file")} == {
        "log-file": "httpthumbnailer.log",
        "access-log-file": "httpthumbnailer_access.log",
        "pid-file": "httpthumbnailer.pid",
    }
    assert (found["limit-memory"], found["limit-disk"], found["worker-timeout"]) == (128, 1024, 300)
    assert not any(found[option.name] for option in OPTIONS if option.kind == "switch")
    assert found["syslog-facility"] is found["xid-header"] is found["user"] is None


def test_short_and_long_names_underscores_and_repetition() -> None:
    assert values("-v", "-w", "3", "-L", "a:1") == values(
        "--verbose", "--worker_processes", "3", "--listener", "a:1"
    )
    assert values("--no_upscale-fix")["no-upscale-fix"] is True
    assert values("-t", "1", "--worker-timeout", "2")["worker-timeout"] == 2
    assert values("-L", "a:1", "-L", "unix:b")["listener"] == ["a:1", "unix:b"]
    assert values("--plugins", "a", "--plugins", "b")["plugins"] == ["a", "b"]
    assert values("-l", "--verbose")["log-file"] == "--verbose"  # what follows is the value, whatever it is
    assert parse(["-d", "a", "-v", "--", "-"], OPTIONS).arguments == ("a", "-v", "--", "-")  # options first
    assert parse(["--", "-v"], OPTIONS).arguments == ("-v",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "unknown switch --nonsense"),
        (["-vd"], "unknown switch -vd"),
        (["--worker-timeout=3"], "unknown switch --worker-timeout=3"),
        (["-w3"], "unknown switch -w3"),
        (["--log-file"], "missing value for option --log-file"),
        (["-w", "0"], "option --worker-processes needs a whole number from 1 to 1000000000, got: 0"),
        (
            ["--limit-memory", "1.5"],
            "failed to cast: 'limit_memory' to type: Integer: invalid value for Integer(): \"1.5\"",
        ),
        (
            ["-w", ""],
            "failed to cast: 'worker_processes' to type: Integer: invalid value for Integer(): \"\"",
        ),
        (["--limit-disk", "-1"], "option --limit-disk needs a whole number from 0 to 1000000000, got: -1"),
        (
            ["-t", "9" * 30],
            f"option --worker-timeout needs a whole number from 1 to 1000000000, got: {'9' * 30}",
        ),
    ],
)
def test_complaints(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words, OPTIONS)
    assert str(caught.value) == message


@pytest.mark.covers("t130")
def test_a_bad_option_exits_with_42(commands: Commands) -> None:
    done = commands.run("--nonsense")
    assert (done.returncode, done.stdout) == (42, "")
    assert done.stderr.startswith(
        "Error: unknown switch --nonsense\nUsage: httpthumbnailer [switches|options]\n"
    )
    assert list(commands.scratch.iterdir()) == []


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(commands: Commands, word: str) -> None:
    done = commands.run(word, "--foreground")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: httpthumbnailer [switches|options]\n")
    for option in OPTIONS:
        assert f"   {option.spelling()}\n" in done.stdout
    assert done.stdout.count("no effect") == 2


def test_version(commands: Commands) -> None:
    done = commands.run("--version")
    assert (done.returncode, done.stdout) == (
        0,
        f'httpthumbnailer version "1.3.0"\nSafelight {__version__}\n',
    )


@pytest.mark.covers("t131")
def test_formats(commands: Commands) -> None:
    done = commands.run("-F")
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("\n\n")
    headings = [block.split("\n")[0] for block in blocks]
    assert headings == ["Versions:", "Input formats:", "Output formats:", "Supported Interlace:"]
    for block in blocks:
        assert all(line.startswith("\t") for line in block.rstrip("\n").split("\n")[1:])
    for block in blocks[1:3]:
        assert {"jpeg", "png", "gif", "webp", "tiff"} <= set(block.split("\n")[1].split())
    assert tuple(INTERLACE_NAMES.split()) == KNOWN_INTERLACE_NAMES


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("8080", "0.0.0.0:8080"),
        ("*:8080", "0.0.0.0:8080"),
        ("/var/run/x.sock", "unix:/var/run/x.sock"),
        ("unix:/x", "unix:/x"),
        ("unix:x", f"unix:{Path('x').absolute()}"),
        ("~/x.sock", f"unix:{Path.home()}/x.sock"),
        ("unix:~/x.sock", f"unix:{Path.home()}/x.sock"),
        ("~root/x.sock", f"unix:{Path('~root').expanduser()}/x.sock"),
    ],
)
def test_listeners(text: str, expanded: str) -> None:
    assert expand_listener(text) == expanded


@pytest.mark.parametrize("text", ["nonsense", "~no-such-user/x", "a:99999", ""])
def test_bad_listeners(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at"):
        expand_listener(text)


def test_image_settings(tmp_path: Path) -> None:
    plain = image_settings(values())
    assert (plain.auto_orient, plain.png_quality, plain.max_pixels) == (False, 95, 134_217_728)
    assert plain.shrink_on_load is plain.downsample is True
    assert image_settings(values("--auto-orient")).auto_orient
    settings = image_settings(values("--no-optimization"))
    assert settings.shrink_on_load is settings.downsample is False
    settings = image_settings(values("--no_downsample"))
    assert (settings.shrink_on_load, settings.downsample) == (True, False)
    assert image_settings(values("--limit-disk", "1")).max_pixels == 128 * (1 << 20) // 8
    assert image_settings(values("--limit-disk", "2048")).max_pixels == 2048 * (1 << 20) // 8
    found = image_settings(values("--plugins", str(tmp_path), "--plugins", "missing"))
    assert found.plugins == (str(tmp_path), str(Path("missing").absolute()))


def test_the_console_script_is_declared() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["httpthumbnailer"] == "safelight.cli.httpthumbnailer:main"


@pytest.mark.parametrize("name", SPEEDS)
def test_speed_is_the_older_servers_unless_given(name: str) -> None:
    assert image_settings(values()).speed is Speed.REFERENCE
    assert image_settings(values("--speed", name)).speed == name


def test_an_unknown_speed_is_refused() -> None:
    with pytest.raises(UsageError, match="--speed needs one of reference, fast, balanced, best, got: slow"):
        parse(["--speed", "slow"], OPTIONS)
