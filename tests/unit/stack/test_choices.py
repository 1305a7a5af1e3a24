"""What a start keeps of what earlier ones were told, and what it says of that."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stack.choices import Choices, Told, choose, explain_choices
from stack.ports import Ports
from stack.servers import local_addresses
from stack.system import stages
from stack.wiring import Wiring, remembered_choices

KEPT = Choices(otlp="127.0.0.1:4317", routes=Path("/etc/routes.yaml"), sinks=True)


@pytest.mark.parametrize(
    ("told", "chosen", "lines"),
    [
        pytest.param(
            Told(),
            KEPT,
            [
                "OTLP: 127.0.0.1:4317, as before; OTLP= removes it",
                "ROUTES: /etc/routes.yaml, as before; ROUTES= removes it",
                "SINKS: local sinks run beside the routes file, as before; SINKS= removes it",
            ],
            id="nothing told: all is kept, and said",
        ),
        pytest.param(
            Told(otlp="127.0.0.1:4317", routes="/new.yaml", sinks=False),
            Choices(otlp="127.0.0.1:4317", routes=Path("/new.yaml")),
            [
                "OTLP: 127.0.0.1:4317",
                "ROUTES: /new.yaml; formerly /etc/routes.yaml",
                "SINKS: removed; formerly local sinks run beside the routes file",
            ],
            id="others told: both are said",
        ),
        pytest.param(
            Told(otlp="", routes=""),
            Choices(sinks=True),
            [
                "OTLP: removed; formerly 127.0.0.1:4317",
                "ROUTES: removed; formerly /etc/routes.yaml",
                "SINKS: removed; formerly local sinks run beside the routes file",
            ],
            id="empty values remove",
        ),
    ],
)
def test_what_is_not_told_is_kept_and_nothing_changes_in_silence(told: Told, chosen: Choices, lines: list[str]) -> None:
    assert choose(told, KEPT) == chosen
    assert explain_choices(told, KEPT, chosen) == lines


def test_where_nothing_was_told_nothing_is_said() -> None:
    assert explain_choices(Told(), Choices(), Choices()) == []


def test_a_routes_file_is_remembered_by_its_whole_path() -> None:
    assert choose(Told(routes="routes.yaml"), Choices()).routes == Path.cwd() / "routes.yaml"


def test_the_folder_remembers_what_was_told(tmp_path: Path) -> None:
    assert remembered_choices(tmp_path) == Choices()
    wiring = Wiring(addresses=local_addresses(Ports()), ports=Ports(), otlp=KEPT.otlp, routes=KEPT.routes, sinks=True)
    wiring.write(tmp_path)
    assert remembered_choices(tmp_path) == KEPT
    # As an earlier version wrote it.
    file = tmp_path / "system.json"
    record = json.loads(file.read_text())
    del record["sinks"]
    file.write_text(json.dumps(record))
    assert remembered_choices(tmp_path) == replace(KEPT, sinks=False)


@pytest.mark.parametrize(
    ("choices", "runs"),
    [(Choices(), True), (Choices(routes=Path("r")), False), (Choices(routes=Path("r"), sinks=True), True)],
)
def test_sinks_run_without_a_routes_file_and_beside_one_when_asked_for(choices: Choices, *, runs: bool) -> None:
    assert ("sinks" in stages(choices)[0]) is runs
