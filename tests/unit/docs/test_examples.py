"""Every example of the pages is one that the command, the contracts and the servers take."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer._click.exceptions import UsageError
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app
from tests.fakes.edge import Edge, running_edge
from tests.fakes.on_call import a_policy, a_snapshot
from tests.unit.docs.examples import PAGES, RestCall, blocks, commands

_PAGES = {page.stem: page for page in PAGES}
# Pages whose command lines are run, on the real services with a store in memory, and the name of the page's own file.
_FILES = {
    "silences": "",
    "routing": "routing.yaml",
    "incidents": "",
    "catalog": "catalog.yaml",
    "on_call": "oncall.yaml",
    "reports": "",
}
_RECEIVERS = ("operations", "auditors", "bank_mail", "ann-pager", "ann-mail", "ben-pager", "cem-pager")
# The examples name times after this one.
_WRITTEN = datetime(2026, 11, 28, 12, tzinfo=UTC)
# What the examples of a page read must be there, whichever of them runs first.
_WRITES = {
    "routing": ["routing", "set", "routing.yaml"],
    "catalog": ["catalog", "apply", "catalog.yaml"],
    "on_call": ["oncall", "apply", "oncall.yaml"],
}
# What an example names by an id is not there; nor is what these name, or it is in use.
_ID = re.compile("[0-9a-f]{8}")
_REFUSED = (
    "routing rollback 2",
    "routing show --version 2",
    "catalog edges confirm",
    "catalog edges ignore",
    "oncall delete person cem",
    "oncall apply oncall.yaml --prune",
)


def cases(program: str, pages: Iterable[str] = _PAGES) -> list[Any]:
    return [
        pytest.param(page, words, id=f"{page}: {' '.join(words)[:60]}")
        for page in pages
        for words in commands(_PAGES[page], program)
    ]


def own_files(page: str) -> dict[str, str]:
    """Return the files that the command lines of a page read: that of the page, and empty ones."""
    words = (word for words in commands(_PAGES[page], "tocsin") for word in words)
    named = {word: "" for word in words if word.endswith((".yaml", ".log", ".json", ".key", ".arrow"))}
    return named | ({name: blocks(_PAGES[page], "yaml")[0]} if (name := _FILES.get(page)) else {})


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a folder with the files of a page."""
    for name, text in own_files(request.getfixturevalue("page")).items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("page", "words"), cases("tocsin"))
def test_the_command_takes_the_arguments(page: str, words: list[str]) -> None:
    del page  # for its files
    parse(words)


def parse(words: list[str]) -> None:
    """Parse the arguments of the command; raise UsageError when they are wrong."""
    command: Any = get_command(app)
    context = None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not isinstance(command, TyperGroup):
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("words", [["alert", "list"], ["alerts", "list", "--sate", "FIRING"], ["silences", "add"]])
def test_wrong_arguments_are_seen(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge() as found:
        known = found.known_receivers.known
        assert known is not None
        found.known_receivers.known = replace(known, names=known.names | {*_RECEIVERS})
        found.store.tables.on_call = a_snapshot(a_policy("shop"))
        found.clock.advance(_WRITTEN - found.clock.now())
        yield found


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("page", "words"), [case for case in cases("tocsin", _FILES) if "watch" not in case.values[1]])
def test_the_command_is_carried_out(page: str, words: list[str], edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_SERVER", edge.address)
    if page in _WRITES:
        assert CliRunner().invoke(app, _WRITES[page]).exit_code == 0
    done = CliRunner().invoke(app, words)
    if any(map(_ID.fullmatch, words)) or " ".join(words).startswith(_REFUSED):
        assert "NOT_FOUND" in done.stderr or "FAILED_PRECONDITION" in done.stderr, done.output
    else:
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("page", "words"), cases("curl"))
def test_a_call_over_rest_is_one_of_an_rpc(page: str, words: list[str]) -> None:
    del page  # named in the case
    call = RestCall.of(words)
    if call.url.startswith("http://127.0.0.1:8080/api"):
        call.request()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("http://127.0.0.1:8080/api/alert", "no rpc takes GET /api/alert"),
        ("-X PUT http://127.0.0.1:8080/api/alerts", "no rpc takes PUT /api/alerts"),
        ("http://127.0.0.1:8080/api/alerts?state=FIRING", "has no parameter state"),
        ("http://127.0.0.1:8080/api/alerts?states=FIRED", "FIRED"),
        ("-d {} http://127.0.0.1:8080/api/catalog/services/a -X DELETE", "takes no body"),
        ('-d {"actr":"ann"} http://127.0.0.1:8080/api/alerts/1/acknowledge', "actr"),
    ],
)
def test_a_wrong_call_is_seen(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RestCall.of(line.split()).request()
