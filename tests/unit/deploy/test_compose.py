"""compose.yaml cannot run everywhere, so it is compared with the specification and with the services' settings."""

import importlib.util
import json
import re
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.chassis.settings import describe_settings, load_settings
from services.notifier.settings import load_routes
from stack.envoy import EnvoySettings, render_config
from stack.postgres import DATABASE, USER
from stack.topics import create_topics

ROOT = Path(__file__).resolve().parents[3]

# Service in compose.yaml, its module, its settings' prefix.
SERVICES = {
    "log-ingest": ("ingest", "INGEST_"),
    "alert-rule-engine": ("evaluator", "EVALUATOR_"),
    "alert-manager": ("manager", "MANAGER_"),
    "notification-service": ("notifier", "NOTIFIER_"),
}
OURS = [*SERVICES, "api-gateway"]
# Existing runbooks use these names.
NAMES = {*OURS, "kafka", "postgres", "redis", "prometheus", "grafana", "jaeger"}


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def filled_in(text: str) -> str:
    """Return a value as compose fills it in when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def environment(service: str) -> dict[str, str]:
    return {name: filled_in(value) for name, value in compose()["services"][service]["environment"].items()}


def settings_of(service: str) -> tuple[type, str]:
    if service == "api-gateway":
        return EnvoySettings, "GATEWAY_"
    module, prefix = SERVICES[service]
    return import_module(f"services.{module}.settings").Settings, prefix


def loaded(service: str) -> Any:
    kind, prefix = settings_of(service)
    return load_settings(kind, prefix, environment(service))


def test_it_keeps_the_compose_specification() -> None:
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    jsonschema.validate(compose(), json.loads(schema))


def test_the_services_have_the_names_that_runbooks_use() -> None:
    assert set(compose()["services"]) == {*NAMES, "create-topics"}


@pytest.mark.parametrize("service", OURS)
def test_every_setting_that_is_passed_exists_and_every_required_one_is_passed(service: str) -> None:
    kind, prefix = settings_of(service)
    known = {doc.name: doc for doc in describe_settings(kind, prefix)}
    prefixes = ("INGEST_", "EVALUATOR_", "MANAGER_", "NOTIFIER_", "GATEWAY_")
    passed = {name for name in environment(service) if name.startswith(prefixes)}
    assert passed <= set(known)
    assert {name for name, doc in known.items() if doc.required} <= passed


@pytest.mark.parametrize("service", OURS)
def test_every_value_is_accepted_by_its_setting(service: str) -> None:
    assert loaded(service)


@pytest.mark.parametrize("service", OURS)
def test_it_runs_a_module_that_exists(service: str) -> None:
    python, dash_m, module = compose()["services"][service]["command"]
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module if service == "api-gateway" else f"{module}.__main__")
    assert module in {"stack.envoy", f"services.{SERVICES.get(service, ('',))[0]}"}


@pytest.mark.parametrize(("service", "module"), [(name, module) for name, (module, _) in SERVICES.items()])
def test_envoy_has_the_address_of_each_service(service: str, module: str) -> None:
    process, gateway = loaded(service).process, loaded("api-gateway")
    assert getattr(gateway, module) == f"{service}:{port(process.listen)}"
    assert getattr(gateway, f"{module}_admin") == f"{service}:{port(process.admin_listen)}"
    assert process.listen.startswith("0.0.0.0:")
    assert process.admin_listen.startswith("0.0.0.0:")


@pytest.mark.parametrize("service", SERVICES)
def test_its_health_check_calls_its_admin_port(service: str) -> None:
    admin = port(loaded(service).process.admin_listen)
    assert environment(service)["HEALTH_URL"] == f"http://127.0.0.1:{admin}/health"


def test_envoys_health_check_calls_its_own_admin_port() -> None:
    gateway = loaded("api-gateway")
    assert environment("api-gateway")["HEALTH_URL"] == f"http://127.0.0.1:{gateway.admin_port}/ready"
    assert '"@type"' in render_config(gateway)


def test_rules_are_watched_through_the_mesh() -> None:
    assert loaded("alert-rule-engine").manager_target == f"api-gateway:{loaded('api-gateway').mesh_port}"


def test_receivers_are_asked_for_through_the_mesh() -> None:
    assert loaded("alert-manager").notifier_target == f"api-gateway:{loaded('api-gateway').mesh_port}"


def test_the_published_ports_are_the_documented_ones_and_on_this_machine_only() -> None:
    published = [each for service in compose()["services"].values() for each in service.get("ports", [])]
    assert all(each.startswith("127.0.0.1:") for each in published)
    ports = {int(each.split(":")[1]) for each in published}
    assert ports == {8080, 8081, 8082, 8083, 50051, 50052, 50053, 50054, 9092, 5432, 6379, 9090, 3000, 16686}


@pytest.mark.parametrize("service", OURS)
def test_a_service_is_not_killed_before_its_drain_ends(service: str) -> None:
    grace = float(compose()["services"][service]["stop_grace_period"].removesuffix("s"))
    assert service == "api-gateway" or loaded(service).process.drain.total_seconds() < grace


@pytest.mark.parametrize("service", SERVICES)
def test_topics_are_created_before_anybody_subscribes(service: str) -> None:
    services = compose()["services"]
    assert services[service]["depends_on"]["create-topics"] == {"condition": "service_completed_successfully"}
    assert services["create-topics"]["depends_on"]["kafka"] == {"condition": "service_healthy"}
    kafka = services["kafka"]["environment"]
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert f"INSIDE://{loaded(service).kafka.brokers}" in kafka["KAFKA_ADVERTISED_LISTENERS"]


def test_the_topics_are_created_from_the_stacks_own_list() -> None:
    _, _, program = compose()["services"]["create-topics"]["command"]
    assert program == "from stack.topics import create_topics; create_topics('kafka:29092')"
    assert callable(create_topics)


def test_every_dependency_exists_and_has_a_health_check() -> None:
    services = compose()["services"]
    for service in services.values():
        for other, wish in service.get("depends_on", {}).items():
            assert wish["condition"] != "service_healthy" or "test" in services[other]["healthcheck"]


@pytest.mark.parametrize("service", ["alert-manager", "notification-service"])
def test_manager_and_notifier_use_the_database_that_is_created(service: str) -> None:
    made = environment("postgres")
    assert (made["POSTGRES_DB"], made["POSTGRES_USER"]) == (DATABASE, USER) == ("alertdb", "alertuser")
    url = f"postgresql://{USER}:{made['POSTGRES_PASSWORD']}@postgres:5432/{DATABASE}"
    assert loaded(service).postgres.database_url.reveal() == url


def test_the_notifier_can_read_its_routes() -> None:
    assert loaded("notification-service").routes == Path("/etc/tocsin/routes.yaml")
    (mounted,) = compose()["services"]["notification-service"]["volumes"]
    source, target, mode = filled_in(mounted).split(":")
    assert (target, mode) == ("/etc/tocsin/routes.yaml", "ro")
    assert load_routes(ROOT / source, environment("notification-service"))


def test_what_is_mounted_exists() -> None:
    named = set(compose()["volumes"])
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = filled_in(volume).split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in named


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_only_the_rights_that_it_needs(service: str) -> None:
    ours = compose()["services"][service]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])


def port(address: str) -> str:
    return address.rpartition(":")[2]
