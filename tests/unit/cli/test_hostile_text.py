"""Whatever characters a log line has, a terminal shows them as text."""

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from google.protobuf.message import Message
from rich.panel import Panel
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from cli import main
from cli.main import app
from stack.terminal import Terminal
from tests.fakes.edge import Edge
from tests.fakes.ingest_server import IngestServer
from tests.unit.cli.commands import Command
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, Delivery, FailedNotification, Receiver

M = TypeVar("M", bound=Message)

CLEAR = "\x1b[2J\x1b[1;1HAll systems normal\x1b[8m"
HOSTILE = f"x{CLEAR}\x9b31m\x7f\u202egnp\u2066\u2028\u200b\u3164[red]b[/red][/] :skull:\r\nFORGED\tend"
CLI = Path(__file__).parents[3] / "cli"

COMMANDS = [
    ("alerts", "list"),
    ("alerts", "show", HOSTILE),
    ("alerts", "ack", HOSTILE),
    ("alerts", "watch"),
    ("notifications", "list"),
    ("notifications", "failed"),
    ("notifications", "breakers"),
    ("receivers", "list"),
    ("notifications", "retry", HOSTILE),
]


def fill(message: Message) -> None:
    """Put the hostile text into each field that takes one."""
    for field in message.DESCRIPTOR.fields:
        place = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            place[HOSTILE] = HOSTILE
        elif field.is_repeated and field.type == field.TYPE_STRING:
            place.append(HOSTILE)
        elif field.is_repeated:
            fill(place.add())
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, HOSTILE)
        elif field.message_type is not None and field.message_type.file.package.startswith("tocsin."):
            fill(place)
            place.SetInParent()


def filled(message: M) -> M:
    fill(message)
    return message


@pytest.fixture
def hostile(edge: Edge) -> Edge:
    edge.alerts.append(filled(Alert()))
    edge.history.append(filled(AlertHistoryEntry()))
    edge.failed.append(filled(FailedNotification()))
    edge.deliveries.append(filled(Delivery()))
    edge.breakers.append(filled(CircuitBreaker()))
    edge.receivers.append(filled(Receiver()))
    return edge


def hidden(text: str) -> list[str]:
    return [char for char in text if (not char.isprintable() and char != "\n") or char == "\u3164"]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_a_log_line_is_shown_and_has_no_effect_on_the_terminal(
    tocsin: Command, hostile: Edge, command: tuple[str, ...]
) -> None:
    done = tocsin(*command)
    assert hostile.requests
    assert hidden(done.output) == []
    assert not any(line.strip().startswith("FORGED") for line in done.output.splitlines())
    if command[1] != "breakers":
        assert r"x\x1b[2J" in done.output


@pytest.mark.parametrize("form", ["wide", "yaml"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.usefixtures("hostile")
def test_it_has_no_effect_in_other_forms_either(tocsin: Command, command: tuple[str, ...], form: str) -> None:
    done = tocsin(*command, "-o", form)
    assert hidden(done.output) == []
    assert not any(line.strip().startswith("FORGED") for line in done.output.splitlines())
    if form == "yaml":
        assert any(HOSTILE in text for document in yaml.safe_load_all(done.stdout) for text in texts(document))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.usefixtures("hostile")
def test_json_escapes_it_and_stays_the_same_data(tocsin: Command, command: tuple[str, ...]) -> None:
    done = tocsin(*command, "-o", "json")
    assert hidden(done.output) == []
    assert any(HOSTILE in text for text in texts(json.loads(done.output)))


def test_a_file_is_sent_whatever_its_name_is(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / f"{HOSTILE.replace('/', '')}.log"
    file.write_text(f"2026-07-01 12:00:00 ERROR {CLEAR}\n", encoding="utf-8")
    for options in ([], ["--output", "json"], ["--timezone", "UTC"]):
        done = CliRunner().invoke(app, ["send", str(file), *options, "--server", ingest.address])
        assert done.exit_code == 0, done.output
        assert hidden(done.output) == []
    missing = CliRunner().invoke(app, ["send", f"{file}.gone", "--server", ingest.address])
    assert hidden(missing.output) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        ["alerts", HOSTILE],
        ["alerts", "list", f"--{HOSTILE}"],
        ["alerts", "list", "--state", HOSTILE],
        ["alerts", "show", "id", HOSTILE],
        ["send", "app.log", "--format", HOSTILE],
        ["send", "app.log", "--timezone", HOSTILE],
        ["up", "--routes", HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments[:-1]) or "command",
)
def test_a_usage_error_shows_an_argument_as_text(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Usage: tocsin")
    assert r"\u202e" in done.stderr
    assert hidden(done.stderr) == []
    assert not any(line.startswith("FORGED") for line in done.stderr.splitlines())


def test_rules_of_a_file_are_printed_as_text(tmp_path: Path, tocsin: Command) -> None:
    file = tmp_path / "rules.json"
    rule = {"name": HOSTILE, "type": "ERROR_THRESHOLD", "condition": HOSTILE, "severity": "LOW", HOSTILE: 1}
    for given in (rule, {name: value for name, value in rule.items() if name != HOSTILE}):
        file.write_text(json.dumps(given))
        for form in ("table", "json"):
            done = tocsin("rules", "validate", str(file), "-o", form)
            assert done.exit_code != 0
            assert hidden(done.output) == []


def test_rules_that_are_applied_are_printed_as_text(tmp_path: Path, tocsin: Command) -> None:
    file = tmp_path / "rules.json"
    rule = {"name": HOSTILE, "type": "ERROR_THRESHOLD", "threshold": 5, "windowMinutes": 5, "severity": "LOW"}
    for description in ("", HOSTILE):
        file.write_text(json.dumps(rule | {"description": description, "labels": {HOSTILE[:60]: HOSTILE}}))
        for form in ("table", "json"):
            for verb in (("validate",), ("apply", "--diff", "--dry-run"), ("apply", "--diff")):
                done = tocsin("rules", *verb, str(file), "-o", form)
                assert done.exit_code == 0, done.output
                assert hidden(done.output) == []
                assert not any(line.startswith("FORGED") for line in done.output.splitlines())


@pytest.mark.parametrize(
    "thing",
    [
        HOSTILE,
        Text(HOSTILE),
        Panel("inside", title=Text(HOSTILE)),
        Table(HOSTILE, title=HOSTILE, caption=HOSTILE),
    ],
    ids=["string", "text", "panel", "table"],
)
def test_nothing_that_is_printed_goes_around_it(thing: Any) -> None:
    file = io.StringIO()
    terminal = Terminal(file=file, width=300, force_terminal=True, color_system=None)
    terminal.print(thing)
    terminal.out(thing)
    assert hidden(file.getvalue()) == []
    assert "[red]b[/red][/] :skull:" in file.getvalue()


def test_a_progress_bar_and_a_status_print_control_characters_as_escapes() -> None:
    file = io.StringIO()
    terminal = Terminal(file=file, width=300, force_terminal=True, color_system=None)
    with Progress(TextColumn("{task.description}", markup=False), console=terminal) as bar:
        bar.add_task(HOSTILE)
    with terminal.status(HOSTILE):
        pass
    assert file.getvalue().count(r"\x1b[2J\x1b[1;1HAll") >= 2
    # The library's own codes move the cursor and hide it; none of them is the text's.
    assert [code for code in ("\x1b[2J", "\x1b[1;1H", "\x1b[8m", "\x9b", "\u202e") if code in file.getvalue()] == []


def test_a_crash_is_printed_as_text_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crash() -> None:
        raise ValueError(HOSTILE)

    monkeypatch.setattr(main, "app", crash)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    done = capsys.readouterr().err
    assert hidden(done) == []
    assert r"ValueError: x\x1b[2J" in done


def test_only_one_module_writes() -> None:
    """What prints by itself would go around the console."""
    found = [
        f"{path.relative_to(CLI)}:{node.lineno}"
        for path in sorted(CLI.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id in {"print", "Console"})
        or (isinstance(node, ast.Attribute) and node.attr in {"echo", "secho", "stdout", "stderr"})
        if path.name != "output.py"
    ]
    assert found == []
