"""What makes another way of running a program, so that `up` starts it anew."""

from dataclasses import replace
from pathlib import Path

import pytest

from stack.ports import Ports
from stack.processes import Processes
from stack.servers import Addresses
from stack.system import system_program
from stack.wiring import Wiring

ADDRESSES = Addresses(kafka="127.0.0.1:1", postgres="postgresql://u@127.0.0.1:2/d", redis="redis://127.0.0.1:3/0")


def digest(name: str, folder: Path, routes: Path, **settings: str) -> str:
    wiring = Wiring(addresses=ADDRESSES, ports=Ports(), routes=routes, settings=settings)
    return system_program(name, Processes(folder), wiring).digest


def test_another_setting_is_another_way_for_its_service_alone(tmp_path: Path) -> None:
    before = {name: digest(name, tmp_path, tmp_path) for name in ("ingest", "evaluator")}
    after = {name: digest(name, tmp_path, tmp_path, INGEST_MAX_MESSAGE_BYTES="100") for name in before}
    assert after["ingest"] != before["ingest"]
    assert after["evaluator"] == before["evaluator"]


def test_a_default_is_used_until_the_setting_is_given_and_is_kept(tmp_path: Path) -> None:
    wiring = Wiring(addresses=ADDRESSES, ports=Ports(), routes=tmp_path, defaults={"INGEST_LINGER": "7ms"})
    given = replace(wiring, settings={"INGEST_LINGER": "9ms"})

    def linger(one: Wiring) -> str | None:
        return system_program("ingest", Processes(tmp_path), one).environ.get("INGEST_LINGER")

    assert (linger(wiring), linger(given)) == ("7ms", "9ms")
    given.write(tmp_path)
    assert Wiring.read(tmp_path).defaults == wiring.defaults


def test_envoy_takes_its_settings_from_the_start(tmp_path: Path) -> None:
    wiring = Wiring(addresses=ADDRESSES, ports=Ports(), settings={"GATEWAY_CONCURRENCY": "3"})
    command = system_program("envoy", Processes(tmp_path), wiring).command
    assert command[command.index("--concurrency") + 1] == "3"


def test_another_value_of_a_variable_that_the_routes_file_names_is_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text("url: ${PAYMENTS_SLACK_URL}")
    monkeypatch.setenv("PAYMENTS_SLACK_URL", "one")
    monkeypatch.setenv("UNRELATED", "one")
    before = digest("notifier", tmp_path, routes)
    monkeypatch.setenv("UNRELATED", "another")
    assert digest("notifier", tmp_path, routes) == before
    monkeypatch.setenv("PAYMENTS_SLACK_URL", "another")
    assert digest("notifier", tmp_path, routes) != before


def test_the_sinks_are_reached_under_other_names_beside_a_routes_file(tmp_path: Path) -> None:
    def environ(*, sinks: bool, routes: Path | None) -> set[str]:
        wiring = Wiring(addresses=ADDRESSES, ports=Ports(), routes=routes, sinks=sinks)
        return set(system_program("notifier", Processes(tmp_path), wiring).environ)

    name = "SLACK_WEBHOOK_URL"
    assert name in environ(sinks=False, routes=None)
    assert {name, f"SINK_{name}"} & environ(sinks=True, routes=tmp_path) == {f"SINK_{name}"}
    assert {name, f"SINK_{name}"} & environ(sinks=False, routes=tmp_path) == set()


def test_other_routes_in_the_same_file_are_another_way(tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text("one")
    before = digest("notifier", tmp_path, routes)
    routes.write_text("another")
    assert digest("notifier", tmp_path, routes) != before
