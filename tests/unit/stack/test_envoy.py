"""Envoy's starter explains itself, and does not start then; its refusals know the contracts' enums."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.rest_lua import lua_tables
from services.chassis.settings import SettingsError, load_settings
from stack.envoy import PREFIX, TEMPLATES, EnvoySettings, main, render_config, write_config


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["stack.envoy", option])
    main()
    assert "GATEWAY_CONCURRENCY" in capsys.readouterr().out


def test_a_refused_word_is_answered_with_the_values_of_its_enum() -> None:
    enums = dict(re.findall(r'^  \["([\w.]+)"\] = "([\w, ]+)",$', lua_tables(), re.MULTILINE))
    assert enums["AlertRule.Severity"] == "LOW, MEDIUM, HIGH, CRITICAL"
    # Of a message within a message.
    assert enums["WeeklyHours.Weekday"].startswith("MONDAY, ")
    assert not any(name.startswith("LogEvent.") for name in enums)


def test_what_bodies_and_queries_may_have_is_that_of_the_contracts() -> None:
    assert (TEMPLATES / "methods.lua").read_text() == lua_tables(), "stale: make gen writes it anew"


def test_what_the_server_sets_and_what_stands_in_the_path_are_known_and_not_offered() -> None:
    rows = dict(re.findall(r'^  \["(\w+)"\] = \{(.*)\},$', lua_tables(), re.MULTILINE))
    assert rows["ServiceEntry"] == (
        'settable = "name owner tier description links labels dependsOn etag", '
        'of_the_server = "createTime updateTime", inner = {}'
    )
    assert 'of_the_server = "id"' in rows["AcknowledgeAlertRequest"]
    assert 'inner = {services = "ServiceEntry"}' in rows["ApplyServicesRequest"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tls_certificate": "c"}, "tls_certificate and tls_key must be given together"),
        ({"tls_client_ca": "a"}, "must be given together, and with tls_client_ca"),
        ({"mesh_certificate": "c", "mesh_key": "k"}, "mesh_certificate, mesh_key and mesh_ca must be given together"),
        ({"plaintext": True}, "plaintext is for where tls_certificate or mesh_certificate is set"),
    ],
)
def test_a_part_of_the_certificates_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        EnvoySettings(**given)


def test_each_listener_and_each_connection_to_a_service_has_its_certificate(tmp_path: Path) -> None:
    mesh: dict[str, Any] = {"mesh_certificate": "m/c.pem", "mesh_key": "m/k.pem", "mesh_ca": "m/ca.pem"}
    settings = EnvoySettings(tls_certificate="e/c.pem", tls_key="e/k.pem", plaintext=True, **mesh)
    config = json.loads(write_config(settings, tmp_path).read_text())["static_resources"]
    for listener in config["listeners"]:
        encrypted, plaintext = listener["filter_chains"]
        assert encrypted["filters"] == plaintext["filters"]
        assert (encrypted["filter_chain_match"], plaintext["filter_chain_match"]) == (
            {"transport_protocol": "tls"},
            {"transport_protocol": "raw_buffer"},
        )
        asks = encrypted["transport_socket"]["typed_config"].get("require_client_certificate", False)
        assert asks == (listener["name"] == "mesh")
    peers = {
        cluster["name"]: cluster["transport_socket"]["typed_config"]["common_tls_context"]
        for cluster in config["clusters"]
        if "transport_socket" in cluster
    }
    services = ("ingest", "evaluator", "manager", "notifier")
    assert set(peers) == {"refusals", *(name for service in services for name in (service, f"{service}_admin"))}
    assert peers["refusals"] == peers["manager"]
    matched = peers["ingest"]["combined_validation_context"]["default_validation_context"]
    assert matched["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://tocsin/service/ingest"}}
    ]
    # Nothing was asked for from users.
    assert sorted(path.name for path in tmp_path.glob("secret_*")) == [
        "secret_edge.json",
        "secret_mesh.json",
        "secret_mesh_peers.json",
    ]
    secret = json.loads((tmp_path / "secret_mesh_peers.json").read_text())["resources"][0]["validation_context"]
    assert secret["watched_directory"] == {"path": str(Path("m").absolute())}


def test_without_certificates_there_is_plaintext_and_no_file(tmp_path: Path) -> None:
    text = write_config(EnvoySettings(), tmp_path).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["envoy.json"]
    assert "transport_socket" not in text
    assert json.loads(text)["static_resources"]["listeners"][0]["filter_chains"][0].keys() == {"filters"}


def test_an_address_that_others_reach_needs_authentication_and_certificates() -> None:
    mesh: dict[str, Any] = {"mesh_certificate": "c", "mesh_key": "k", "mesh_ca": "a"}
    for missing in ({}, mesh, {"authentication": "required"}):
        with pytest.raises(
            ValueError, match=r'^listen must be .* found "0\.0\.0\.0": for any other set authentication=req'
        ):
            EnvoySettings(listen="0.0.0.0", **missing)
    EnvoySettings(listen="0.0.0.0", authentication="required", **mesh)
    # On the way from plaintext to certificates.
    EnvoySettings(listen="0.0.0.0", plaintext=True, **mesh)
    for local in ("127.0.0.1", "::1", "localhost"):
        EnvoySettings(listen=local)


def test_what_lets_strangers_in_is_a_warning() -> None:
    mesh: dict[str, Any] = {"mesh_certificate": "c", "mesh_key": "k", "mesh_ca": "a", "authentication": "required"}
    assert EnvoySettings().warnings == []
    (anonymous, clear) = EnvoySettings(listen="0.0.0.0", anonymous="admin", **mesh).warnings
    assert anonymous == "GATEWAY_ANONYMOUS: callers without credentials may do what the role admin may"
    assert clear.startswith("GATEWAY_TLS_CERTIFICATE is not set")
    assert EnvoySettings(plaintext=True, **mesh).warnings == ["GATEWAY_PLAINTEXT: every listener takes plaintext"]
    edge: dict[str, Any] = {"tls_certificate": "c", "tls_key": "k"}
    assert EnvoySettings(listen="0.0.0.0", **edge, **mesh).warnings == []


def test_only_what_may_be_rest_passes_through_filters_of_rest(tmp_path: Path) -> None:
    config = json.loads(write_config(EnvoySettings(), tmp_path).read_text())
    (connections,) = (each for each in config["static_resources"]["listeners"] if each["name"] == "edge")
    http = connections["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = http["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        is_grpc = any(header["name"] == "content-type" for header in route["match"].get("headers", ()))
        filters = route.get("typed_per_filter_config", {})
        left_out = {name for name, given in filters.items() if given.get("disabled")}
        rest = {f"envoy.filters.http.{name}" for name in ("buffer", "lua", "grpc_json_transcoder")}
        known = {"tocsin.known_keys", "tocsin.known_callers"}
        # What is open to all holds no body.
        is_open = route["match"].get("path") in ("/health", "/api/openapi.json")
        # Nor does health of gRPC more than the name of a service, which must be there before a service is asked. So
        # must an event be that ingest reads as it came.
        bounds = {name: given["buffer"] for name, given in filters.items() if "buffer" in given}
        most = {"own_health": 1024, "take_event": 65536}.get(route["name"])
        buffer = {"envoy.filters.http.buffer": {"max_request_bytes": most}} if most else {}
        assert bounds == buffer
        assert left_out == ((rest | known) - set(buffer) if is_grpc or is_open else set()), route["name"]


@pytest.mark.parametrize("is_on", [True, False])
def test_filters_of_what_is_off_are_off(tmp_path: Path, *, is_on: bool) -> None:
    chosen: dict[str, Any] = {"authentication": "required", "anonymous": "viewer", "calls_per_second": 10}
    settings = EnvoySettings(**chosen, jwt_issuer="i", jwt_keys="k") if is_on else EnvoySettings()
    listeners = json.loads(write_config(settings, tmp_path).read_text())["static_resources"]["listeners"]
    filters = [
        each for one in listeners for each in one["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    ]
    chosen_by_settings = {each["name"]: each["disabled"] for each in filters if "disabled" in each}
    names = ("local_ratelimit", "jwt_authn", "rbac")
    own = ("anonymous", "known_keys", "known_callers")
    expected = [*(f"tocsin.{name}" for name in own), *(f"envoy.filters.http.{name}" for name in names)]
    assert chosen_by_settings == dict.fromkeys(expected, not is_on)


def test_events_go_to_sockets_without_tls_and_other_calls_to_the_servers_with_it(tmp_path: Path) -> None:
    mesh: dict[str, Any] = {"mesh_certificate": "m/c.pem", "mesh_key": "m/k.pem", "mesh_ca": "m/ca.pem"}
    path = write_config(EnvoySettings(ingest_socket="/run/1.sock,/run/2.sock", **mesh), tmp_path)
    config = json.loads(path.read_text())
    clusters = {each["name"]: each for each in config["static_resources"]["clusters"]}
    found = clusters["events"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [each["endpoint"]["address"]["pipe"]["path"] for each in found] == ["/run/1.sock", "/run/2.sock"]
    assert "transport_socket" not in clusters["events"]
    assert all("transport_socket" in clusters[name] for name in ("ingest", "ingest_admin", "manager", "refusals"))
    assert event_clusters(config) == {"events"}


def test_without_sockets_events_go_to_the_server() -> None:
    assert event_clusters(json.loads(render_config(EnvoySettings()))) == {"ingest"}


def event_clusters(config: dict[str, Any]) -> set[str]:
    """Return where the routes of events lead, at every port."""
    texts = re.findall(r'\{[^{}]*"cluster": "(\w+)"[^{}]*"timeout": "30s"', json.dumps(config))
    return set(texts)


@pytest.mark.parametrize("paths", ["ingest.sock", "/a.sock,b.sock", "/" + "d" * 107])
def test_a_socket_has_an_absolute_path(paths: str) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_INGEST_SOCKET.*absolute path"):
        load_settings(EnvoySettings, PREFIX, {"GATEWAY_INGEST_SOCKET": paths})


def test_instances_are_reached_at_host_and_port() -> None:
    assert load_settings(EnvoySettings, PREFIX, {"GATEWAY_INGEST": "127.0.0.1:1,ingest:2"}).ingest
    for addresses in ("127.0.0.1:1,127.0.0.1", "unix:/a.sock"):
        with pytest.raises(SettingsError, match=r"GATEWAY_INGEST.*host:port"):
            load_settings(EnvoySettings, PREFIX, {"GATEWAY_INGEST": addresses})


def test_the_configuration_is_the_same_at_each_start() -> None:
    """Otherwise `make up` takes an Envoy that runs for one with other settings, and starts it anew."""
    program = (
        "from stack.envoy import EnvoySettings, render_config;"
        "print(render_config(EnvoySettings(authentication='required', anonymous='viewer')))"
    )
    rendered = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(rendered) == 1
