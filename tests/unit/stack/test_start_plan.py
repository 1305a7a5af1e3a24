"""A start keeps what earlier ones were told, and says what differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stack.ports import Ports
from stack.service_settings import SettingsRefusedError
from stack.start_options import RequestedOptions
from stack.start_plan import StartPlan, current_ports, plan_start
from stack.wiring import Wiring, stored_wiring

MAX = "INGEST_MAX_BATCH_EVENTS"


def start(folder: Path, environ: dict[str, str], *, routes: str | None = None, servers_only: bool = False) -> StartPlan:
    """Plan a start and store it as a start does."""
    requested = RequestedOptions(routes=routes)
    plan = plan_start(folder, requested, environ, ports=None, external=None, servers_only=servers_only)
    plan.wiring.write(folder)
    return plan


def test_ports_are_kept_until_another_start_is_told_otherwise(tmp_path: Path) -> None:
    first = start(tmp_path, {"TOCSIN_PORT_EDGE": "18080"})
    assert first.lines == ["TOCSIN_PORT_EDGE: 8080 → 18080"]
    again = start(tmp_path, {})
    assert again.wiring.ports.edge == current_ports(tmp_path, {}).edge == 18080
    assert again.lines == ["as before: TOCSIN_PORT_EDGE=18080 (an empty value, such as TOCSIN_PORT_EDGE=, removes one)"]
    assert current_ports(tmp_path, {"TOCSIN_PORT_EDGE": "18081"}).edge == 18081
    removed = start(tmp_path, {"TOCSIN_PORT_EDGE": ""})
    assert (removed.wiring.ports, removed.lines) == (Ports(), ["TOCSIN_PORT_EDGE: 18080 → 8080"])


def test_servers_of_ones_own_are_kept(tmp_path: Path) -> None:
    # The address that a server started here would have.
    address = "127.0.0.1:9092"
    assert start(tmp_path, {"TOCSIN_KAFKA": address}).lines == [
        f"TOCSIN_KAFKA: a server that is started here → {address}"
    ]
    kept = start(tmp_path, {}).wiring
    assert (kept.external, kept.addresses.kafka) == ({"kafka": address}, address)
    assert start(tmp_path, {"TOCSIN_KAFKA": ""}).wiring.external == {}


@pytest.mark.parametrize("name", ["TOCSIN_KAFKA_REPLICAS", "TOCSIN_POSTGRES", "TOCSIN_REDIS", "TOCSIN_KAFKA"])
def test_a_wrong_variable_of_a_server_ends_the_start_before_anything(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*x.*"):
        start(tmp_path, {name: "x"}, servers_only=True)
    assert not (tmp_path / "system.json").exists()


def test_settings_of_services_are_kept_and_every_change_is_said(tmp_path: Path) -> None:
    assert start(tmp_path, {MAX: "500"}).lines == [f"{MAX}: 10000 → 500"]
    kept = start(tmp_path, {"GATEWAY_CONCURRENCY": "2"})
    assert kept.wiring.settings == {MAX: "500", "GATEWAY_CONCURRENCY": "2"}
    assert kept.lines == [
        "GATEWAY_CONCURRENCY: 1 → 2",
        f"as before: {MAX}=500 (an empty value, such as {MAX}=, removes one)",
    ]
    # Servers alone start without any service, whose settings stay as they are.
    assert start(tmp_path, {MAX: "7"}, servers_only=True).wiring.settings == kept.wiring.settings
    changed = start(tmp_path, {MAX: "", "GATEWAY_CONCURRENCY": "3"})
    assert changed.wiring.settings == {"GATEWAY_CONCURRENCY": "3"}
    assert set(changed.lines) == {f"{MAX}: 500 → 10000", "GATEWAY_CONCURRENCY: 2 → 3"}


def test_a_setting_under_its_former_name_is_kept_under_the_present_one(tmp_path: Path) -> None:
    assert start(tmp_path, {"INGEST_GATHER": "9ms"}).wiring.settings == {"INGEST_LINGER": "9ms"}


def test_what_has_no_effect_is_said_and_never_stored(tmp_path: Path) -> None:
    password = "postgresql://user:secret@db/alerts"
    given = {"NOTIFIER_DATABASE_URL": password, "NOTIFIER_TOKEN": "secret", "INGEST_MAX_BATCH_EVENT": "5"}
    files = {"MANAGER_DATABASE_URL_FILE": "/etc/url", "MANAGER_REDIS_PASSWORD": "secret"}
    plan = start(tmp_path, given | files)
    assert plan.lines == [
        f'INGEST_MAX_BATCH_EVENT is ignored: there is no such setting; did you mean "{MAX}"?',
        "MANAGER_DATABASE_URL_FILE is ignored: this start sets it itself",
        (
            "MANAGER_REDIS_PASSWORD is ignored: a secret would have to be stored; set MANAGER_REDIS_PASSWORD_FILE to"
            " the path of a file that holds it"
        ),
        "NOTIFIER_DATABASE_URL is ignored: this start sets it itself",
        "NOTIFIER_TOKEN is ignored: there is no such setting",
    ]
    assert "secret" not in (tmp_path / "system.json").read_text()


def test_settings_that_a_service_would_refuse_are_all_named_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefusedError) as refused:
        start(tmp_path, {MAX: "many", "GATEWAY_CONCURRENCY": "some"})
    for name in (MAX, "GATEWAY_CONCURRENCY"):
        assert f"{name} must be an integer" in str(refused.value)
    assert stored_wiring(tmp_path).settings == {}


def test_a_receiver_of_traces_that_is_no_address_is_named_beside_wrong_settings_and_not_kept(tmp_path: Path) -> None:
    requested = RequestedOptions(otlp="nonsense")
    with pytest.raises(SettingsRefusedError) as refused:
        plan_start(tmp_path, requested, {MAX: "many"}, ports=None, external=None, servers_only=False)
    assert str(refused.value).splitlines()[1:] == [
        '  OTLP must be host:port, found "nonsense"',
        f"  {MAX} must be an integer",
    ]
    assert stored_wiring(tmp_path).otlp == ""


def test_of_the_routes_variables_a_change_is_said_and_no_value_stored(tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text("url: ${NOTIFIER_SLACK}")
    assert start(tmp_path, {"NOTIFIER_SLACK": "https://one"}, routes=str(routes)).lines == [f"ROUTES: none → {routes}"]
    assert "NOTIFIER_SLACK: changed" in start(tmp_path, {"NOTIFIER_SLACK": "https://two"}).lines
    assert not any(line.startswith("NOTIFIER") for line in start(tmp_path, {"NOTIFIER_SLACK": "https://two"}).lines)
    assert "https" not in (tmp_path / "system.json").read_text()


def test_ports_that_the_caller_has_chosen_are_not_explained(tmp_path: Path) -> None:
    plan = plan_start(tmp_path, RequestedOptions(), {}, ports=Ports.free(), external={}, servers_only=True)
    assert plan.lines == []


def test_what_an_earlier_release_has_stored_is_kept(tmp_path: Path) -> None:
    wiring = start(tmp_path, {"TOCSIN_KAFKA": "kafka:9092", "TOCSIN_PORT_EDGE": "18080"}).wiring
    file = tmp_path / "system.json"
    record = json.loads(file.read_text())
    for name in ("sinks", "settings", "external", "routes_checks"):
        del record[name]
    file.write_text(json.dumps(record))
    assert start(tmp_path, {}).wiring == wiring


def test_a_folder_without_a_start_has_the_documented_wiring(tmp_path: Path) -> None:
    stored = stored_wiring(tmp_path)
    assert (stored.ports, stored.variables) == (Ports(), {})
    (tmp_path / "system.json").write_text("not JSON")
    assert stored_wiring(tmp_path) == stored


def test_a_wiring_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = replace(stored_wiring(tmp_path), otlp="127.0.0.1:4317", routes=Path("/r.yaml"), sinks=True)
    written.write(tmp_path)
    assert Wiring.read(tmp_path) == written
