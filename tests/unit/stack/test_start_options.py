"""Options that a start keeps from earlier ones, and how it reports them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stack.ports import Ports
from stack.servers import local_addresses
from stack.start_options import RequestedOptions, StartOptions, explain_options, merge_options
from stack.system import stages
from stack.wiring import Wiring, stored_options

KEPT = StartOptions(otlp="127.0.0.1:4317", routes=Path("/etc/routes.yaml"), sinks=True)


@pytest.mark.parametrize(
    ("requested", "chosen", "lines"),
    [
        pytest.param(
            RequestedOptions(),
            KEPT,
            [
                "OTLP: 127.0.0.1:4317, as before; OTLP= removes it",
                "ROUTES: /etc/routes.yaml, as before; ROUTES= removes it",
                "SINKS: local sinks run beside the routes file, as before; SINKS= removes it",
            ],
            id="nothing requested: all options are kept and reported",
        ),
        pytest.param(
            RequestedOptions(otlp="127.0.0.1:4317", routes="/new.yaml", sinks=False),
            StartOptions(otlp="127.0.0.1:4317", routes=Path("/new.yaml")),
            [
                "OTLP: 127.0.0.1:4317",
                "ROUTES: /new.yaml; formerly /etc/routes.yaml",
                "SINKS: removed; formerly local sinks run beside the routes file",
            ],
            id="others requested: old and new are reported",
        ),
        pytest.param(
            RequestedOptions(otlp="", routes=""),
            StartOptions(sinks=True),
            [
                "OTLP: removed; formerly 127.0.0.1:4317",
                "ROUTES: removed; formerly /etc/routes.yaml",
                "SINKS: removed; formerly local sinks run beside the routes file",
            ],
            id="empty values remove",
        ),
    ],
)
def test_stored_options_are_kept_and_every_change_is_reported(
    requested: RequestedOptions, chosen: StartOptions, lines: list[str]
) -> None:
    assert merge_options(requested, KEPT) == chosen
    assert explain_options(requested, KEPT, chosen) == lines


def test_without_options_nothing_is_reported() -> None:
    assert explain_options(RequestedOptions(), StartOptions(), StartOptions()) == []


def test_a_routes_file_is_remembered_by_its_whole_path() -> None:
    assert merge_options(RequestedOptions(routes="routes.yaml"), StartOptions()).routes == Path.cwd() / "routes.yaml"


def test_the_folder_stores_the_options(tmp_path: Path) -> None:
    assert stored_options(tmp_path) == StartOptions()
    wiring = Wiring(addresses=local_addresses(Ports()), ports=Ports(), otlp=KEPT.otlp, routes=KEPT.routes, sinks=True)
    wiring.write(tmp_path)
    assert stored_options(tmp_path) == KEPT
    # As an earlier version wrote it.
    file = tmp_path / "system.json"
    record = json.loads(file.read_text())
    del record["sinks"]
    file.write_text(json.dumps(record))
    assert stored_options(tmp_path) == replace(KEPT, sinks=False)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (StartOptions(), True),
        (StartOptions(routes=Path("r")), False),
        (StartOptions(routes=Path("r"), sinks=True), True),
    ],
)
def test_sinks_run_without_a_routes_file_and_beside_one_when_asked_for(options: StartOptions, *, runs: bool) -> None:
    assert ("sinks" in stages(options)[0]) is runs
