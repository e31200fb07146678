"""docs/observability.md names what there is."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from serving import Server

from safelight.cli.options import LINES
from safelight.server.stats import STATISTICS
from safelight.timing import STEP_NAMES, Account

DOCUMENT = (Path(__file__).parents[2] / "docs/observability.md").read_text()


def table(section: str) -> list[list[str]]:
    """The cells of the rows of a section's last table."""
    text = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    last = max(number for number, row in enumerate(rows) if set("".join(row)) == {"-"})
    return rows[last + 1 :]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_metric_is_listed_and_every_listed_one_exists(start: Callable[..., Server]) -> None:
    server = start()
    httpx.get(f"{server.url}/original/cat.jpg")
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in families
    }
    exposed["safelight_image_worker_restarts_total"] = {"reason"}  # none has been replaced yet
    listed = {names(row[0])[0]: set(names(row[1])) for row in table("Metrics")}
    assert listed == exposed


def test_expressions_name_metrics_that_exist() -> None:
    listed = {names(row[0])[0] for row in table("Metrics")}
    used = set(re.findall(r"safelight_\w+", "".join(re.findall(r"(?:expr: |`\w*\().*", DOCUMENT))))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} <= listed


def test_steps_are_listed_in_their_order() -> None:
    assert [names(row[0])[0] for row in table("Steps")] == list(STEP_NAMES)


def test_statistics_that_are_listed_exist() -> None:
    listed = {name for row in table("Statistics") for name in names(row[0]) if not name.startswith("...")}
    assert listed <= set(STATISTICS)


def test_keys_of_lines_are_listed() -> None:
    example = next(json.loads(line) for line in DOCUMENT.splitlines() if line.startswith('{"time"'))
    account = Account(endpoint="a", cache="hit", trace="b")
    scope = {
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [],
    }
    written = json.loads(LINES["json"]()(scope, account))
    listed = {name for row in table("Lines of requests") for name in names(row[0])}
    assert listed == set(written) | {"xid"}
    assert set(example) == listed - {"trace"}
    assert list(example["steps_s"]) == [name for name in STEP_NAMES if name in example["steps_s"]]
