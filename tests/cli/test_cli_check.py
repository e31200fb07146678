"""`safelight check`."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from safelight.cli import main

GOOD = """s3 key="KEYID" secret="TOPSECRET" ssl=false
path "original" "#{input_digest}.#{image_mime_extension}"
path {
    "by-name" "#{path}"
}

put "original" ":name" {
    output_store_path "input"
    store_file "input" root="images" path="original"
    thumbnail "input" {
        "small" width=20 quality=80 {
            edit "rotate" "90" background-color="red"
        }
    }
    validate_uri_hmac "hmac" secret="TOPSECRET" lockpicks="TOPSECRET"
}

get "a" { source_failover { source_file "a" root="x" path="by-name"; }; }
"""

OVERVIEW = """{file}: 2 paths, 1 client, 2 endpoints

paths
  original  #{{input_digest}}.#{{image_mime_extension}}
  by-name   #{{path}}

clients
  s3 key="KEYID" secret="***" ssl=false

put "original" ":name"  (line 7)
  validator  validate_uri_hmac "hmac" secret="***" lockpicks="***"
  source     request body as "input"  (implied)
  processor  thumbnail "input"
                 "small" width=20 quality=80
                     edit "rotate" "90" background-color="red"
  store      store_file "input" root="images" path="original"
  output     output_store_path "input"

get "a"  (line 18)
  source     source_failover
                 source_file "a" root="x" path="by-name"
  output     output_ok  (implied)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api.sdl"


def check(file: Path, text: str | bytes, *options: str, command: str = "check") -> Result:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(main, [command, str(file), *options])


def test_shows_what_is_declared_in_running_order(file: Path) -> None:
    result = check(file, GOOD)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == OVERVIEW.format(file=file)


def test_every_complaint_has_a_line(file: Path) -> None:
    result = check(file, 'gat {\n}\nget {\n  output_txt "a"\n  output_text\n}\nget "a\n')
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{file}:1:1: unexpected statement: gat (did you mean 'get'?)",
        f"{file}:4:3: unexpected statement: output_txt (did you mean 'output_text'?)",
        f"{file}:5:3: syntax error while parsing 'output_text': expected text",
        f"{file}:7:5: unclosed string",
    ]


def test_warnings_go_to_standard_error(file: Path) -> None:
    result = check(file, 'get {\n  output_text "#{nope}"\n}\n')
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{file}: 0 paths, 0 clients, 1 endpoint\n")
    assert result.stderr == f"{file}:2:3: warning: variable 'nope' not defined\n"


@pytest.mark.covers("s015", "s016")
def test_lenient_warns_of_unknown_statements(file: Path) -> None:
    text = 'old "a"\nget {\n  older {\n    x 1\n  }\n  output_ok\n}\n'
    assert check(file, text).exit_code == 1
    result = check(file, text, "--lenient")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"{file}:1:1: warning: unexpected statement: old",
        f"{file}:3:3: warning: unexpected statement: older",
    ]


def test_lenient_refuses_an_unknown_guard(file: Path) -> None:
    result = check(file, 'get {\n  validate_url_hmac "h" secret="x"\n}\n', "--lenient")
    assert result.exit_code == 1
    assert "did you mean 'validate_uri_hmac'?" in result.stderr


def test_an_empty_file_declares_nothing(file: Path) -> None:
    result = check(file, "")
    assert (result.exit_code, result.stdout) == (0, f"{file}: 0 paths, 0 clients, 0 endpoints\n")


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize(
    ("octets", "place"),
    [
        (b"\xff", "1:1: not UTF-8: byte 0xff"),
        (b'# \xc5\xbc\xe9\nget "a"', "1:4: not UTF-8: byte 0xe9"),
        (b"get {\r\n}\r\r  \xe9", "4:3: not UTF-8: byte 0xe9"),
    ],
)
def test_bad_utf8_has_a_place(file: Path, octets: bytes, place: str, command: str) -> None:
    result = check(file, octets, command=command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{file}:{place} (save the file as UTF-8)\n"


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_missing_file_is_one_line(file: Path, command: str) -> None:
    result = CliRunner().invoke(main, [command, str(file)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{file}: cannot be read: No such file or directory\n"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path}: cannot be read: Is a directory\n")


def test_a_complaint_about_a_block_is_one_line(file: Path) -> None:
    text = 'put {\n  output_store_url foo=1 {\n    "input" secret=`a\nb`\n  }\n}\n'
    stderr = check(file, text).stderr.replace(str(file), "api.sdl")
    block = """output_store_url foo=1 { "input" secret="***" }"""
    assert stderr.splitlines() == [
        f"api.sdl:2:3: syntax error while parsing '{block}': unexpected attributes: 'foo'",
        "api.sdl:3:5: syntax error while parsing '\"input\" secret=\"***\"': unexpected attributes: 'secret'",
    ]
    assert check(file, text, "--lenient").stderr.count("\n") == 2


LEAKS = [
    's3 key="K" secret="TOPSECRET" foo=1',
    's3 key="K" secrt="TOPSECRET"',
    's3 key="K" secret = "TOP SECRET \\"TOPSECRET\\""  ssl=5',
    's3 key="K" secret=TOPSECRET',
    "s3 key=\"K\" secret='TOPSECRET'",
    's3 key="K" secret=12TOPSECRET',
    's3 key="K" secret=`TOPSECRET` x=1',
    'thumbnailer url="http://user:TOPSECRET@host" x=1',
    'get {\n validate_uri_hmac "h" secret="TOPSECRET" lockpicks="TOPSECRET" digest="foo"\n}',
    'get {\n validate_uri_hmac "h" secret="TOPSECRET" lockpick="TOPSECRET"\n}',
    'get {\n validate_header_hmac "X" "h" Secret="TOPSECRET"\n}',
]


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize("text", LEAKS)
def test_complaints_keep_secrets(file: Path, text: str, command: str) -> None:
    result = check(file, text, command=command)
    assert result.exit_code == 1
    assert str(file) in result.stderr
    assert "TOPSECRET" not in result.output


@pytest.mark.parametrize(
    "text",
    [
        'thumbnailer url="http://user:TOPSECRET@host:80/"',
        's3 key="K" secret="a\\"TOPSECRET\\n"',
        'get {\n validate_header_hmac "X" "h" secret="TOPSECRET" lockpicks="1,TOPSECRET"\n}',
        'get {\n validate_uri_hmac "h" secret="TOPSECRET" if-variable-matches="nope:#{nope}"\n}',
    ],
)
@pytest.mark.parametrize("options", [("check",), ("show",), ("show", "--json")])
def test_secrets_are_masked(file: Path, text: str, options: tuple[str, ...]) -> None:
    result = check(file, text, *options[1:], command=options[0])
    assert result.exit_code == 0
    assert "***" in result.stdout
    assert "TOPSECRET" not in result.output


def test_as_a_process(file: Path) -> None:
    file.write_text("gat\n")
    program = [sys.executable, "-W", "error", "-c", "from safelight.cli import main; main()"]
    done = subprocess.run([*program, "check", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{file}:1:1: unexpected statement: gat (did you mean 'get'?)\n"


def test_several_files_are_all_checked(tmp_path: Path) -> None:
    good, bad, worse = (tmp_path / name for name in ("good.sdl", "bad.sdl", "worse.sdl"))
    good.write_text('get { output_text "x"; }')
    bad.write_text("gett { }")
    worse.write_text('path "a"')
    result = CliRunner().invoke(main, ["check", str(good), str(bad), str(worse)])
    assert result.exit_code == 1
    assert f"{good}: " in result.stdout
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [f"{bad}:1:1", f"{worse}:1:1"]
