"""The chart's renderings: the schemas of Kubernetes, the services' settings, and exactly the arrows of the design.

`make chart` writes them with helm, which not every machine has.
"""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis.settings import describe_settings, load_settings
from stack.envoy import EnvoySettings
from stack.topics import TOPICS
from stack.wiring import SERVICES

HELM = Path(__file__).resolve().parents[3] / "deploy" / "helm"
RENDERED = sorted((HELM / "rendered").glob("*.yaml"))
GROUPS_BY_SERVICE = {"evaluator": ("log-events", 4), "manager": ("alerts", 4), "notifier": ("notifications", 4)}
COMPONENT = "app.kubernetes.io/component"
Manifest = dict[str, Any]


@cache
def manifests(path: Path) -> tuple[Manifest, ...]:
    return tuple(each for each in yaml.safe_load_all(path.read_text()) if each)


def of_kind(path: Path, *kinds: str) -> dict[str, Manifest]:
    """Return the manifests of these kinds, by their component."""
    return {each["metadata"]["labels"][COMPONENT]: each for each in manifests(path) if each["kind"] in kinds}


def pods(path: Path) -> dict[str, Manifest]:
    return {name: each["spec"]["template"]["spec"] for name, each in of_kind(path, "Deployment", "Job").items()}


def environment(path: Path, component: str) -> dict[str, str]:
    (container,) = pods(path)[component]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


@pytest.fixture(params=RENDERED, ids=lambda path: path.stem)
def rendered(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_a_rendering_for_one_node_for_production_and_with_vault() -> None:
    assert [path.stem for path in RENDERED] == ["one-node", "production", "vault"]


def test_every_manifest_keeps_the_schema_of_kubernetes(rendered: Path) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    # Those of operators, which have none here.
    others = {"Certificate", "Issuer", "ScaledObject", "TriggerAuthentication"}
    for manifest in manifests(rendered):
        if manifest["kind"] not in others:
            kubernetes.validate(manifest, "1.34", strict=True)
    assert {manifest["kind"] for manifest in manifests(rendered)} >= {"Deployment", "Service", "NetworkPolicy"}


@pytest.mark.parametrize("component", [*SERVICES, "gateway"])
def test_every_setting_that_is_passed_exists_and_every_required_one_is_passed(rendered: Path, component: str) -> None:
    kind: type = EnvoySettings if component == "gateway" else import_module(f"services.{component}.settings").Settings
    known = {doc.name: doc for doc in describe_settings(kind, f"{component.upper()}_")}
    passed = environment(rendered, component)
    assert passed.keys() <= known.keys()
    required = {name for name, doc in known.items() if doc.required}
    assert {name for name in required if name not in passed and f"{name}_FILE" not in passed} == set()


def test_the_gateway_accepts_its_settings(rendered: Path) -> None:
    given = environment(rendered, "gateway")
    settings = load_settings(EnvoySettings, "GATEWAY_", given)
    for service in SERVICES:
        port = environment(rendered, service)[f"{service.upper()}_LISTEN"].rpartition(":")[2]
        admin = environment(rendered, service)[f"{service.upper()}_ADMIN_LISTEN"].rpartition(":")[2]
        assert getattr(settings, service) == f"tocsin-{service}:{port}"
        assert getattr(settings, f"{service}_admin") == f"tocsin-{service}:{admin}"
    assert settings.authentication == "required"
    assert settings.anonymous == ""


def test_every_file_that_a_setting_names_is_mounted(rendered: Path) -> None:
    for component, pod in pods(rendered).items():
        (container,) = pod["containers"]
        places = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        named = [value for value in environment(rendered, component).values() if value.startswith("/etc/tocsin")]
        assert [value for value in named if not any(value.startswith(f"{place}/") for place in places)] == []


@pytest.mark.parametrize("service", ["manager", "notifier"])
def test_a_service_has_no_credentials_of_the_user_who_migrates(rendered: Path, service: str) -> None:
    prefix = service.upper()
    given, job = environment(rendered, service), of_kind(rendered, "Job")[f"migrate-{service}"]
    assert given[f"{prefix}_MIGRATE_AT_START"] == "false"
    assert f"{prefix}_MIGRATION_DATABASE_URL_FILE" not in given
    for volume in pods(rendered)[service]["volumes"]:
        if volume["name"] == "database":
            assert [item["key"] for item in volume["secret"]["items"]] == [f"{service}-url", "ca.crt"]
    annotations = of_kind(rendered, "Deployment")[service]["spec"]["template"]["metadata"]["annotations"]
    assert not [name for name in annotations if name.endswith("-secret-url")]

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = pods(rendered)[f"migrate-{service}"]["containers"]
    assert container["command"] == ["python", "-m", f"services.{service}.migrate"]
    of_job = environment(rendered, f"migrate-{service}")
    own, owner = (Path(of_job[f"{prefix}_{name}DATABASE_URL_FILE"]) for name in ("", "MIGRATION_"))
    assert str(own) == given[f"{prefix}_DATABASE_URL_FILE"]
    assert owner == own.with_name("url")
    settings = import_module(f"services.{service}.settings").Settings
    assert of_job.keys() <= {doc.name for doc in describe_settings(settings, f"{prefix}_")}


def test_no_secret_stands_in_a_manifest(rendered: Path) -> None:
    assert not of_kind(rendered, "Secret")
    for component in pods(rendered):
        names = environment(rendered, component)
        assert not [name for name in names if name.endswith(("PASSWORD", "DATABASE_URL", "REDIS_URL"))]


def test_every_pod_keeps_the_restricted_standard_and_is_probed(rendered: Path) -> None:
    for component, pod in pods(rendered).items():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert "podAntiAffinity" in pod["affinity"]
        if component in (*SERVICES, "gateway"):
            assert container.keys() >= {"startupProbe", "readinessProbe", "livenessProbe"}


def test_what_runs_more_than_once_is_not_all_away_at_once() -> None:
    path = HELM / "rendered" / "production.yaml"
    budgets = of_kind(path, "PodDisruptionBudget")
    assert budgets.keys() == {*SERVICES, "gateway"}
    assert all(each["spec"]["maxUnavailable"] == 1 for each in budgets.values())
    for each in of_kind(path, "Deployment").values():
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_what_reads_topics_scales_with_their_lag_up_to_their_partitions() -> None:
    partitions = {topic.name: topic.partitions for topic in TOPICS}
    scaled = of_kind(HELM / "rendered" / "production.yaml", "ScaledObject")
    assert scaled.keys() == set(SERVICES)
    for service, (topic, most) in GROUPS_BY_SERVICE.items():
        (trigger,) = scaled[service]["spec"]["triggers"]
        assert trigger["metadata"]["topic"] == topic
        assert scaled[service]["spec"]["maxReplicaCount"] == most == partitions[topic]
        assert scaled[service]["spec"]["minReplicaCount"] >= 2


# Who calls whom, and at which ports: section by section of the design's picture.
MESH = {(service, "gateway", (10000,)) for service in SERVICES}
SERVED = {
    ("gateway", service, ports)
    for service, ports in zip(SERVICES, ((50051, 9101), (50052, 9102), (50053, 9103), (50054, 9104)), strict=True)
}
SERVERS = {
    *((service, "kafka", (9093,)) for service in SERVICES),
    *((service, "postgres", (5432,)) for service in ("manager", "notifier")),
    ("manager", "redis", (6379,)),
    ("notifier", "channels", (443, 587)),
}
# The names of what is outside, by how a policy selects it.
OUTSIDE = {
    "strimzi.io/cluster": "kafka",
    "cnpg.io/cluster": "postgres",
    "app.kubernetes.io/name": "redis",
    "app": "traces",
    "k8s-app": "names",
}


def peer_name(peer: Manifest) -> str:
    if "ipBlock" in peer:
        return "channels"
    if "podSelector" not in peer:
        return str(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
    labels = peer["podSelector"]["matchLabels"]
    if COMPONENT in labels:
        return str(labels[COMPONENT])
    (label,) = labels
    return OUTSIDE[label]


def arrows(path: Path, direction: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Generate who may call whom, as the callers' or the callees' policies have it."""
    for component, policy in of_kind(path, "NetworkPolicy").items():
        for rule in policy["spec"].get(direction, []):
            ports = tuple(dict.fromkeys(port["port"] for port in rule["ports"]))
            for peer in rule.get("to" if direction == "egress" else "from", [{"ipBlock": {}}]):
                pair = (component, peer_name(peer)) if direction == "egress" else (peer_name(peer), component)
                yield *pair, ports


def test_policies_deny_by_default_and_allow_exactly_the_arrows(rendered: Path) -> None:
    policies = of_kind(rendered, "NetworkPolicy")
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())
    everything = policies["default-deny"]["spec"]["podSelector"]["matchLabels"]
    for deployment in of_kind(rendered, "Deployment").values():
        assert everything.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    topics = {("create-topics", "kafka", (9093,))} if "create-topics" in policies else set()
    traces = {(name, "traces", (4317,)) for name in (*SERVICES, "gateway")} if rendered.stem == "production" else set()
    # What all pods may reach; jobs run where nothing else lets them yet.
    everybody = {"default-deny", *of_kind(rendered, "Job")}
    names = {(each, "names", (53,)) for each in everybody}
    secrets = {(each, "vault", (8200,)) for each in everybody} if rendered.stem == "vault" else set()
    migrations = {(f"migrate-{service}", "postgres", (5432,)) for service in ("manager", "notifier")}
    assert set(arrows(rendered, "egress")) == MESH | SERVED | SERVERS | topics | traces | names | secrets | migrations
    admin = {("monitoring", service, (9101 + number,)) for number, service in enumerate(SERVICES)}
    users = {("channels", "gateway", (8080, 8081, 8082, 8083))}
    assert set(arrows(rendered, "ingress")) == MESH | SERVED | admin | users | {("monitoring", "gateway", (10000,))}


def test_the_policy_of_a_job_is_there_before_the_job(rendered: Path) -> None:
    policies = of_kind(rendered, "NetworkPolicy")
    for name, job in of_kind(rendered, "Job").items():
        of_policy, of_job = policies[name]["metadata"]["annotations"], job["metadata"]["annotations"]
        assert of_policy["helm.sh/hook"] == of_job["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert int(of_policy["helm.sh/hook-weight"]) < int(of_job.get("helm.sh/hook-weight", "0"))


def test_each_component_has_a_certificate_with_its_identity() -> None:
    certificates = of_kind(HELM / "rendered" / "one-node.yaml", "Certificate")
    assert certificates.keys() == {"ca", "gateway", "prometheus", *SERVICES}
    for component, certificate in certificates.items():
        if component != "ca":
            assert certificate["spec"]["uris"] == [f"spiffe://tocsin/service/{component}"]
            assert certificate["spec"]["secretName"] == f"tocsin-tls-{component}"
    # What services check, whatever address they call.
    assert "gateway.tocsin.internal" in certificates["gateway"]["spec"]["dnsNames"]
    assert not of_kind(HELM / "rendered" / "vault.yaml", "Certificate")


@pytest.mark.parametrize("path", sorted((HELM / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_yaml_and_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert all(isinstance(each, dict) for each in yaml.safe_load_all(path.read_text()))
