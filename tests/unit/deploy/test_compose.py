"""compose.yaml cannot run everywhere, so it is compared with the specification and with the services' settings."""

import importlib.util
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.chassis.settings import PostgresSettings, describe_settings, load_settings
from services.manager.migrate import MigrationSettings
from services.notifier.settings import Settings as NotifierSettings
from services.notifier.settings import load_routes
from stack.container_certificates import container_requests, ensure
from stack.envoy import EnvoySettings, render_config
from stack.postgres import DATABASE, USER
from stack.topics import create_topics, tool_settings

ROOT = Path(__file__).resolve().parents[3]

# Service in compose.yaml, its module, its settings' prefix.
SERVICES = {
    "log-ingest": ("ingest", "INGEST_"),
    "alert-rule-engine": ("evaluator", "EVALUATOR_"),
    "alert-manager": ("manager", "MANAGER_"),
    "notification-service": ("notifier", "NOTIFIER_"),
}
OURS = [*SERVICES, "api-gateway"]
# The folder of the fixture `issued`.
ISSUED: list[Path] = []
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


@pytest.fixture(scope="module", autouse=True)
def issued() -> Iterator[Path]:
    """Give what the container `certificates` makes; settings that name files of it read them there."""
    with tempfile.TemporaryDirectory() as folder:
        ensure(folder)
        ISSUED.append(Path(folder))
        yield Path(folder)
        ISSUED.clear()


def loaded(service: str) -> Any:
    kind, prefix = settings_of(service)
    given = environment(service)
    ((place, subpath),) = mounted_certificates(compose()["services"][service]).items()
    files = {name: value for name, value in given.items() if name.endswith("_FILE")}
    return load_settings(
        kind, prefix, given | {name: value.replace(place, f"{ISSUED[0]}/{subpath}") for name, value in files.items()}
    )


@pytest.mark.parametrize("name", ["compose.yaml", "compose.secure.yaml"])
def test_it_keeps_the_compose_specification(name: str) -> None:
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    jsonschema.validate(yaml.safe_load((ROOT / name).read_text()), json.loads(schema))


def test_every_server_is_reached_over_tls_with_a_certificate_that_names_its_host() -> None:
    services = compose()["services"]
    hosts = {request.name: request.dns for request in container_requests()}
    assert all(name in hosts[name] for name in ("kafka", "postgres", "redis"))
    for service in SERVICES:
        settings = loaded(service)
        kafka = settings.kafka
        assert (kafka.kafka_ca, kafka.kafka_key) == ("/certificates/ca.pem", "/certificates/key.pem")
        assert kafka.kafka_verify_host_name
        if hasattr(settings, "postgres"):
            assert (settings.postgres.database_ca, settings.postgres.database_key) == (kafka.kafka_ca, kafka.kafka_key)
    redis = loaded("alert-manager").redis
    assert redis.redis_url.reveal() == "rediss://tocsin@redis:6379/0"
    assert (redis.redis_ca, redis.redis_key) == ("/certificates/ca.pem", "/certificates/key.pem")
    assert redis.redis_password.reveal() == (ISSUED[0] / "manager/redis.password").read_text().strip()
    for name in ("kafka", "postgres", "redis"):
        assert mounted_certificates(services[name]) == {"/certificates": name}
        assert services[name]["depends_on"]["certificates"] == {"condition": "service_completed_successfully"}


def test_only_tools_inside_its_container_reach_kafka_without_tls() -> None:
    kafka = environment("kafka")
    protocols = dict(pair.split(":") for pair in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    listeners = dict(each.split("://") for each in kafka["KAFKA_LISTENERS"].split(","))
    assert {name for name, protocol in protocols.items() if protocol != "SSL"} == {"LOCAL"}
    assert listeners["LOCAL"] == "127.0.0.1:9092"
    assert protocols.keys() == listeners.keys()
    # The image takes such names for key stores with passwords.
    assert not [name for name in listeners if name.endswith("SSL")]
    assert "127.0.0.1:9092" in compose()["services"]["kafka"]["healthcheck"]["test"]
    names = {user.removeprefix("User:") for user in kafka["KAFKA_SUPER_USERS"].split(";")}
    assert names == {"CN=kafka", *(f"CN={module}" for module, _ in SERVICES.values()), "ANONYMOUS"}


def test_no_password_has_a_default_that_others_know() -> None:
    texts = [path.read_text() for path in (ROOT / "compose.yaml", ROOT / "deploy/redis/redis.conf")]
    assert not [text for text in texts if "alertpass" in text or "requirepass" in text]
    assert not [name for name in environment("postgres") if name.endswith("PASSWORD")]


def test_passwords_are_made_once_and_readable_for_their_containers_alone(issued: Path) -> None:
    secrets = [issued / "manager/redis.password", issued / "postgres/password", issued / "redis/users.acl"]
    before = [path.read_text() for path in secrets]
    ensure(str(issued))
    assert [path.read_text() for path in secrets] == before
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert len(set(before)) == 3
    assert before[0].strip() not in before[2]
    # Kafka runs as another user, in the group of the image's.
    keystore = issued / "kafka/keystore.pem"
    assert keystore.stat().st_mode & 0o777 == 0o640
    assert compose()["services"]["kafka"]["group_add"] == ["10001"]
    assert (
        keystore.read_text() == (issued / "kafka/key.pem").read_text() + (issued / "kafka/certificate.pem").read_text()
    )


def test_the_services_have_the_names_that_runbooks_use() -> None:
    assert set(compose()["services"]) == {*NAMES, "create-topics", "certificates", "migrations"}


@pytest.mark.parametrize("service", OURS)
def test_every_setting_that_is_passed_exists_and_every_required_one_is_passed(service: str) -> None:
    kind, prefix = settings_of(service)
    known = {doc.name: doc for doc in describe_settings(kind, prefix)}
    prefixes = ("INGEST_", "EVALUATOR_", "MANAGER_", "NOTIFIER_", "GATEWAY_")
    passed = {name for name in environment(service) if name.startswith(prefixes)}
    assert passed <= set(known)
    assert {name for name, doc in known.items() if doc.required} <= passed
    # Nothing here is the same everywhere, unless the person says so.
    assert not [name for name in passed if known[name].type == "secret" and "@" not in environment(service)[name]]


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
    assert environment(service)["HEALTH_URL"] == f"https://127.0.0.1:{admin}/health"
    assert environment(service)["HEALTH_CA"] == loaded(service).process.tls.tls_ca


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
    assert [each for each in published if each.split(":")[1] != each.split(":")[2]] == ["127.0.0.1:9092:9094"]
    assert ports == {8080, 8081, 8082, 8083, 9092, 5432, 6379, 9090, 3000, 16686}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_run_several_times(service: str) -> None:
    # What two containers cannot share: a port of the host, a name, a folder.
    ours = compose()["services"][service]
    assert not {"ports", "container_name", "hostname"} & ours.keys()
    assert not [name for name in environment(service) if name.endswith("_INSTANCE")]
    written = [each for each in ours.get("volumes", []) if isinstance(each, str) or not each.get("read_only")]
    named = [each for each in written if str(each).split(":")[0] in compose()["volumes"]]
    assert named == []
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    assert service in {name for job in jobs for each in job["dns_sd_configs"] for name in each["names"]}


def test_kafkas_tools_are_on_its_path_under_the_names_that_runbooks_call(tmp_path: Path) -> None:
    kafka = compose()["services"]["kafka"]
    assert kafka["environment"]["PATH"].split(":")[:2] == ["/opt/tools", "/opt/kafka/bin"]
    assert "./deploy/kafka:/opt/tools:ro" in kafka["volumes"]
    tools = ROOT / "deploy" / "kafka"
    script = (tools / "kafka-tool").read_text().replace("/opt/kafka/bin", str(tmp_path))
    (tmp_path / "kafka-topics.sh").write_text('#!/bin/sh\necho topics "$@"\n')
    (tmp_path / "kafka-topics").write_text(script)
    for each in tmp_path.iterdir():
        each.chmod(0o755)
    done = subprocess.run([tmp_path / "kafka-topics", "--list", "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == "topics --list a b\n"
    names = {path.name for path in tools.iterdir()}
    assert names >= {"kafka-topics", "kafka-consumer-groups", "kafka-console-consumer", "kafka-console-producer"}
    assert all(path.resolve() == (tools / "kafka-tool").resolve() for path in tools.iterdir())


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
    creating = compose()["services"]["create-topics"]
    _, _, program = creating["command"]
    assert program == "from stack.topics import create_topics; create_topics('kafka:29092')"
    assert callable(create_topics)
    tools = tool_settings("kafka:29092", environ=creating["environment"])
    assert (tools.kafka_ca, tools.kafka_key) == ("/certificates/ca.pem", "/certificates/key.pem")
    assert mounted_certificates(creating) == {"/certificates": "kafka"}


def test_every_dependency_exists_and_has_a_health_check() -> None:
    services = compose()["services"]
    for service in services.values():
        for other, wish in service.get("depends_on", {}).items():
            assert wish["condition"] != "service_healthy" or "test" in services[other]["healthcheck"]


@pytest.mark.parametrize("service", ["alert-manager", "notification-service"])
def test_manager_and_notifier_use_the_database_that_is_created(service: str) -> None:
    made, used = environment("postgres"), loaded(service).postgres
    assert (made["POSTGRES_DB"], made["POSTGRES_USER"]) == (DATABASE, USER) == ("alertdb", "alertuser")
    name = SERVICES[service][0]
    assert used.database_url.reveal() == f"postgresql://{name}@postgres:5432/{DATABASE}"
    assert (used.migrate_at_start, used.migration_database_url.reveal()) == (False, "")
    assert compose()["services"][service]["depends_on"]["migrations"] == {"condition": "service_completed_successfully"}
    rules = [line.split() for line in (ROOT / "deploy/postgres/pg_hba.conf").read_text().splitlines()]
    over_network = [rule for rule in rules if rule[0].startswith("host")]
    assert over_network == [["hostssl", DATABASE, f"{USER},manager,notifier", "all", "cert", "map=services"]]
    users = [line.split() for line in (ROOT / "deploy/postgres/pg_ident.conf").read_text().splitlines()[1:]]
    assert {user for _, certificate, user in users if certificate == name} == {name}
    assert [certificate for _, certificate, user in users if user == USER] == ["migrations"]


def test_the_owner_of_the_tables_migrates_before_the_services_start() -> None:
    migrations = compose()["services"]["migrations"]
    assert migrations["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert mounted_certificates(migrations) == {"/certificates": "migrations"}
    commands = migrations["command"][-1].split(" && ")
    for name, kind in (("manager", MigrationSettings), ("notifier", NotifierSettings)):
        assert f"python -m services.{name}.migrate" in commands
        assert importlib.util.find_spec(f"services.{name}.migrate")
        given: Any = load_settings(PostgresSettings, f"{name.upper()}_", environment("migrations"))
        assert given.migration_database_url.reveal() == f"postgresql://{USER}@postgres:5432/{DATABASE}"
        assert given.database_url.reveal() == f"postgresql://{name}@postgres:5432/{DATABASE}"
        known = {doc.name for doc in describe_settings(kind, f"{name.upper()}_")}
        assert {each for each in migrations["environment"] if each.startswith(name.upper())} <= known


def test_the_notifier_can_read_its_routes() -> None:
    assert loaded("notification-service").routes == Path("/etc/tocsin/routes.yaml")
    mounted, _ = compose()["services"]["notification-service"]["volumes"]
    source, target, mode = filled_in(mounted).split(":")
    assert (target, mode) == ("/etc/tocsin/routes.yaml", "ro")
    assert load_routes(ROOT / source, environment("notification-service"))


def test_what_is_mounted_exists() -> None:
    named = set(compose()["volumes"])
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and ":" not in volume:
                # A place in the container, which has a volume of its own.
                continue
            source = volume["source"] if isinstance(volume, dict) else filled_in(volume).split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in named


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_only_the_rights_that_it_needs(service: str) -> None:
    ours = compose()["services"][service]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])


def mounted_certificates(service: dict[str, Any]) -> dict[str, str]:
    """Return the folders of certificates that a container has, by where they are in it."""
    volumes = [volume for volume in service.get("volumes", []) if isinstance(volume, dict)]
    assert all(volume["source"] == "certificates" and volume["read_only"] for volume in volumes)
    return {volume["target"]: volume["volume"]["subpath"] for volume in volumes}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_asks_for_certificates_and_has_its_own_alone(service: str) -> None:
    process, ours = loaded(service).process, compose()["services"][service]
    assert process.authentication == "required"
    assert process.tls.tls_key == "/certificates/key.pem"
    assert mounted_certificates(ours) == {"/certificates": SERVICES[service][0]}
    assert ours["depends_on"]["certificates"] == {"condition": "service_completed_successfully"}
    named = {request.identity.rpartition("/")[2]: request for request in container_requests()}
    assert service in named[SERVICES[service][0]].dns


def test_the_gateway_knows_the_services_and_lets_anybody_on_this_machine_in() -> None:
    gateway, ours = loaded("api-gateway"), compose()["services"]["api-gateway"]
    assert (gateway.authentication, gateway.anonymous) == ("required", "admin")
    assert gateway.mesh_ca == "/certificates/ca.pem"
    assert any("callers without credentials may do what the role admin may" in text for text in gateway.warnings)
    assert mounted_certificates(ours) == {"/certificates": "gateway"}


def test_the_secure_variant_lets_nobody_in_without_a_credential() -> None:
    secure = yaml.safe_load((ROOT / "compose.secure.yaml").read_text())["services"]["api-gateway"]
    gateway = load_settings(EnvoySettings, "GATEWAY_", environment("api-gateway") | secure["environment"])
    assert (gateway.authentication, gateway.anonymous) == ("required", "")
    assert (gateway.tls_key, gateway.tls_client_ca) == ("/edge/key.pem", "/edge/ca.pem")
    assert gateway.warnings == []
    assert mounted_certificates(secure) == {"/edge": "edge"}


def test_the_certificates_are_issued_where_the_containers_look_for_them(tmp_path: Path) -> None:
    _, _, program = compose()["services"]["certificates"]["command"]
    assert program == "from stack.container_certificates import ensure; ensure('/var/lib/tocsin')"
    ensure(str(tmp_path))
    folders = {path.name for path in tmp_path.iterdir()}
    used = [mounted_certificates(service) for service in compose()["services"].values()]
    assert {folder for mounts in used for folder in mounts.values()} | {"edge", "ca"} == folders
    # Prometheus runs as another user, in the group of the image's.
    assert (tmp_path / "prometheus" / "key.pem").stat().st_mode & 0o777 == 0o640
    assert compose()["services"]["prometheus"]["group_add"] == ["10001"]
    assert "groupadd --system --gid 10001 tocsin" in (ROOT / "Dockerfile").read_text()


def test_prometheus_shows_its_certificate_and_knows_each_service_by_the_name_of_its_container() -> None:
    mounts = mounted_certificates(compose()["services"]["prometheus"])
    issued = {name for request in container_requests() for name in request.dns}
    for job in yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]:
        tls, (discovery,) = job["tls_config"], job["dns_sd_configs"]
        assert (job["scheme"], discovery["names"]) == ("https", [tls["server_name"]])
        assert tls["server_name"] in issued
        assert {Path(tls[name]).parent for name in ("ca_file", "cert_file", "key_file")} == set(map(Path, mounts))


def port(address: str) -> str:
    return address.rpartition(":")[2]
