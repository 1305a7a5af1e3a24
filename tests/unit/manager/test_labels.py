"""The labels by which an alert is matched."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.domain.severity import Severity
from services.manager.adapters.broadcasters import RuleBroadcaster
from services.manager.adapters.tenant_caches import CatalogCache
from services.manager.core.catalog import ServiceEntry, StoredService
from services.manager.core.labels import constant_service, labels_of
from services.manager.core.rule import StoredRule
from services.manager.core.rule_edits import create
from services.manager.worker.labels import TransitionLabels
from services.rule_language.rule import Draft, Rule, RuleType, complete
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryCatalogReader, MemoryRuleReader
from tests.fakes.transitions import NOW
from tocsin.alerts.v1.alert_pb2 import AlertTransition


def rule(filter_: str = "true", scope: str = "", group_by: tuple[str, ...] = ("host",)) -> Rule:
    draft = Draft(
        name="n",
        type=RuleType.CUSTOM,
        filter=filter_,
        scope=scope,
        condition="count > threshold",
        threshold=1.0,
        window=timedelta(minutes=1),
        severity=Severity.LOW,
        group_by=group_by,
    )
    return complete(draft)


def test_the_first_that_says_something_of_a_label_decides() -> None:
    labels = labels_of(
        rule_name="High error count",
        severity=Severity.HIGH,
        service="from-filter",
        group={"host": "h1", "team": "of the group", "status_code": ""},
        rule_labels={"alertname": "x", "severity": "LOW", "service": "y", "team": "b", "tier": "1"},
        catalog_labels={"tier": "2", "owner": "ann", "alertname": "z"},
    )
    assert labels == {
        "alertname": "High error count",
        "severity": "HIGH",
        "service": "from-filter",
        "host": "h1",
        "team": "of the group",
        "tier": "1",
        "owner": "ann",
    }


def test_the_group_names_the_service_before_the_expressions() -> None:
    said = {"rule_name": "n", "severity": Severity.LOW, "rule_labels": {"service": "r"}, "catalog_labels": {}}
    assert labels_of(service="a", group={"service": "b"}, **said)["service"] == "b"  # type: ignore[arg-type]
    assert labels_of(service="", group={}, **said)["service"] == "r"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checked", "service"),
    [
        (rule('service == "pay" && level >= ERROR'), "pay"),
        (rule('"pay" == service'), "pay"),
        (rule('level >= ERROR && (host == "h" && service in ["pay"])'), "pay"),
        (rule("level >= ERROR", scope='service == "pay"'), "pay"),
        (rule('service == "pay" || level >= ERROR'), ""),
        (rule('service in ["pay", "shop"]'), ""),
        (rule('service != "pay"'), ""),
        (rule('message == "service"'), ""),
        (rule("level >= ERROR"), ""),
        (rule('service == "pay"', group_by=("service",)), ""),
        (replace(rule(), filter="service =="), ""),
    ],
)
def test_a_constant_service_is_read_from_scope_and_filter(checked: Rule, service: str) -> None:
    assert constant_service(checked) == service


def message(rule_id: str, revision: int, **group: str) -> AlertTransition:
    return AlertTransition(rule_id=rule_id, rule_revision=revision, rule_name="n", severity=3, group=group)  # type: ignore[arg-type]


async def test_the_rules_are_as_new_as_the_transition_that_needs_them() -> None:
    store = MemoryStore()
    feed = RuleBroadcaster(MemoryRuleReader(store))
    store.tables.services["pay"] = StoredService(
        entry=ServiceEntry(name="pay", labels={"team": "p"}), revision=1, create_time=NOW, update_time=NOW
    )
    catalog = CatalogCache(MemoryCatalogReader(store))
    await catalog.refresh()
    labels = TransitionLabels(feed, catalog)

    async def known_service(revision: int) -> str:
        asked = message("r", revision)
        await labels.refresh([asked])
        return labels.labels_of(asked).get("service", "")

    def put(stored: StoredRule) -> None:
        store.tables.revision = stored.rule.revision
        store.tables.rules["r"] = stored

    put(create(rule('service == "pay"'), "r", 1, now=NOW))
    assert await known_service(1) == "pay"
    assert labels.labels_of(message("r", 1))["team"] == "p"
    assert labels.labels_of(message("r", 1, service="pay"))["team"] == "p"
    put(create(rule('service == "shop"'), "r", 2, now=NOW))
    assert await known_service(1) == "pay"
    assert await known_service(2) == "shop"
    assert labels.labels_of(message("gone", 1)) == {"alertname": "n", "severity": "HIGH"}
    await labels.refresh([message("r", 9, service="x")])
    assert feed.current.revision == 2
    assert labels.labels_of(message("r", 9, service="x"))["service"] == "x"
