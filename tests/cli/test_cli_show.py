"""`safelight show`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from safelight.cli import main
from safelight.cli.show import model
from safelight.config.document import held, is_secret
from safelight.statements import REGISTRY

TEXT = """path "p" "#{path}-#{uuid}-#{path}"
path "p" "#{size}"
get "t" ":size/small|large/" "/(?<a>x+)(?<b>y)?/" "&:q?85" "&k=v" ":z?9" ":s" "&:w" "/x/" {
    output_text "hi" status=201
    source_file "i" root="r" path="p"
    thumbnail "i" "t" quality=5 { edit "crop" "1" "2" color="red"; }
    thumbnail "i" {
        "u"
    }
}
put {
}
"""


def show(tmp_path: Path, text: str, *options: str) -> str:
    file = tmp_path / "api.sdl"
    file.write_text(text)
    result = CliRunner().invoke(main, ["show", str(file), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def shown(tmp_path: Path) -> Any:
    return json.loads(show(tmp_path, TEXT, "--json"))


def test_paths_are_final(shown: Any) -> None:
    assert shown["paths"] == [{"name": "p", "template": "#{size}", "variables": ["size"]}]


def test_matchers_say_their_kind_and_variables(shown: Any) -> None:
    matchers = shown["endpoints"][0]["matchers"]
    assert [(found["kind"], found["captures"], found["default"]) for found in matchers] == [
        ("literal", [], None),
        ("regular expression", ["size"], None),
        ("regular expression", ["a", "b"], None),
        ("optional query parameter", ["q"], "85"),
        ("query parameter of value 'v'", ["k"], None),
        ("optional segment", ["z"], "9"),
        ("segment", ["s"], None),
        ("query parameter", ["w"], None),
        ("regular expression", [], None),
    ]
    assert shown["endpoints"][0]["variables"] == ["size", "a", "b", "q", "k", "z", "s", "w"]


def test_steps_stand_in_running_order(shown: Any) -> None:
    steps = [[(step["family"], step["statement"]) for step in end["steps"]] for end in shown["endpoints"]]
    assert steps == [
        [
            ("source", "source_file"),
            ("processor", "thumbnail"),
            ("processor", "thumbnail"),
            ("output", "output_text"),
        ],
        [("source", "request body"), ("output", "output_ok")],
    ]


def test_fields_include_defaults(shown: Any) -> None:
    source, single, grouped, output = shown["endpoints"][0]["steps"]
    assert source["fields"] == {
        "if-variable-matches": None,
        "if-image-name-on": None,
        "image-name": "i",
        "root": "r",
        "path": "p",
    }
    assert output["fields"] == {"text": "hi", "status": 201, "cache-control": None}
    (spec,) = single["parts"]
    assert spec["fields"]["operation"] == "fit"
    assert spec["fields"]["extra"] == {"quality": "5"}
    (edit,) = spec["parts"]
    assert edit["statement"] == "edit"
    assert edit["fields"]["args"] == ["1", "2"]
    assert edit["fields"]["options"] == {"color": "red"}
    assert [part["line"] for part in grouped["parts"]] == [8]


def test_every_statement_can_be_shown(tmp_path: Path) -> None:
    from safelight.api import load_config
    from safelight.cli.statements import entries, example

    for entry in entries():
        found = model(load_config(example(entry), "x"))
        json.dumps(found)
        assert show(tmp_path, example(entry))


def test_text_and_json_say_the_same(tmp_path: Path, shown: Any) -> None:
    text = show(tmp_path, TEXT)
    for endpoint in shown["endpoints"]:
        for step in endpoint["steps"]:
            assert f"{step['family']}: {step['statement']}" in text
            for name, found in step["fields"].items():
                assert f"{name}" in text
                assert found in (None, "") or str(found) in text


def test_warnings_are_in_the_model_and_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "api.sdl"
    file.write_text('get {\n output_image "a"\n}\n')
    warning = f"{file}:2:2: warning: no statement provides image 'a'"
    result = CliRunner().invoke(main, ["show", str(file)])
    assert result.stderr == warning + "\n"
    result = CliRunner().invoke(main, ["show", str(file), "--json"])
    assert (result.stderr, json.loads(result.stdout)["warnings"]) == ("", [warning])


def test_only_secrets_look_secret() -> None:
    """A field that should be masked has a name that says so, and no other field does."""
    names = {own.name for _, _, statement in REGISTRY.entries() for own in statement.fields}
    assert {name for name in names if is_secret(name)} == {"secret", "lockpicks", "session-token"}


def test_held_masks_only_what_is_there() -> None:
    from safelight.api import load_config
    from safelight.statements.endpoint import EndpointStatement

    config = load_config('get { validate_uri_hmac "h" secret="s"; }', "x")
    (validator,) = config.of(EndpointStatement)[0].parts()
    assert (held(validator)["secret"], held(validator)["lockpicks"]) == ("***", "")
