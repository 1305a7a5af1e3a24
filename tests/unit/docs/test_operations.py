"""The operations manual agrees with the code."""

import re
import runpy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from cli.main import app
from services.domain.severity import Severity
from services.manager.worker.default_rules import DEFAULT_RULES
from services.notifier.settings import load_routes
from stack.ports import Ports
from stack.sink_addresses import sink_variables
from stack.start_options import StartOptions
from stack.topics import TOPICS, Topic
from tests.unit.deploy.test_observability import OTHERS, exported, instruments

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "operations.md").read_text()
MADE = runpy.run_path(str(ROOT / "docs" / "tables.py"))
COMMANDS = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))

__all__ = ["exported"]


@pytest.mark.parametrize("name", MADE["DOCUMENTS"])
def test_the_tables_are_those_of_the_code(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert MADE["filled"](text, MADE["DOCUMENTS"][name]) == text, "stale: python docs/tables.py writes them anew"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_created_from_the_table_is_the_right_one(topic: Topic) -> None:
    row = re.search(rf"^\| `{topic.name}` \| (\d+) \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert row
    partitions, kept = row.groups()
    assert int(partitions) == topic.partitions
    if topic.config["cleanup.policy"] == "compact":
        assert kept == "the last of each key"
    else:
        number, unit = kept.split()
        assert timedelta(**{unit: int(number)}) == timedelta(milliseconds=int(topic.config["retention.ms"]))


def test_no_table_contains_a_path_of_this_machine() -> None:
    assert str(ROOT) not in TEXT


def test_every_metric_that_is_named_is_exported(exported: set[str]) -> None:
    assert list(instruments())
    named = set(re.findall(r"`((?:tocsin|envoy|process|alerts|events|late|notifications)_[a-z_]+)[`{]", TEXT))
    histograms = {name.removesuffix("_count") for name in exported if name.endswith("_count")}
    assert named - {"envoy_admin"} <= exported | histograms | OTHERS


def test_every_command_of_tocsin_exists() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    used = re.findall(r"\btocsin ([a-z]+)(?: ([a-z]+))?", COMMANDS)
    assert used
    for first, second in used:
        command = root.commands[first]
        if isinstance(command, TyperGroup):
            assert second in command.commands


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert used
    assert used <= targets


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))))
def test_its_links_lead_to_existing_files(path: str) -> None:
    assert (ROOT / "docs" / path).exists()


def test_every_port_in_a_command_is_an_endpoint() -> None:
    doors = {getattr(Ports(), field) for field in Ports.__dataclass_fields__}
    used = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", COMMANDS)}
    assert used <= doors | {4317}


def test_every_variable_of_the_command_line_is_documented() -> None:
    options = [option for command in commands(typer.main.get_command(app)) for option in command.params]
    variables = {option.envvar for option in options if option.envvar}
    assert "TOCSIN_SERVER" in variables
    assert {name for name in variables if f"`{name}" not in TEXT} == set()


def commands(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands(inner)


def test_the_example_of_a_second_slack_channel_is_accepted(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```yaml\n(channels:.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    file = tmp_path / "routes.yaml"
    file.write_text(shown)
    (payments_url,) = re.findall(r"^export PAYMENTS_SLACK_URL=(.*)$", COMMANDS, re.MULTILINE)
    variables = sink_variables(StartOptions(routes=file, sinks=True), Ports(), tmp_path)
    routes = load_routes(file, {"PAYMENTS_SLACK_URL": payments_url, **variables})
    assert routes.route(Severity.HIGH, {"team": "payments"})[0] == ("slack-payments",)
    assert routes.route(Severity.LOW, {"team": "payments"})[0] == ("slack",)


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_the_rules_of_the_first_start_are_announced(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    assert all(f"`{rule.name}`" in text for rule in DEFAULT_RULES)
