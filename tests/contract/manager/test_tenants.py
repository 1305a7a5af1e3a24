"""What one tenant has in the manager's schema, another one neither sees nor changes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.chassis.callers import Caller, PermissionDenied, as_caller
from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.chassis.tenants import ALL_TENANTS, as_tenant
from services.domain.problem_reason import ProblemReason
from services.domain.severity import Severity
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader, PostgresMatchedAlertReader
from services.manager.adapters.postgres.incidents import PostgresIncidentReader
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblemReader
from services.manager.adapters.postgres.rules import PostgresRuleReader, PostgresRuleStatisticsReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import TenantNames
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import AlertFilter
from services.manager.core.incident import IncidentFilter
from services.manager.core.rule import RuleEdit, RuleStatistics, StoredRule
from services.manager.core.rule_edits import create
from services.manager.core.rule_problems import ReportedProblem, apply_report
from services.manager.core.transitions import decide
from services.manager.ports.readers import Page
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.transitions import NOW, a_subject, a_transition

pytestmark = pytest.mark.integration

DRAFT = Draft(
    name="errors", type=RuleType.ERROR_THRESHOLD, threshold=1.0, window=timedelta(minutes=1), severity=Severity.LOW
)


@pytest.fixture
async def database(database: str) -> AsyncIterator[Database]:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as opened:
        yield opened


async def create_rule(store: PostgresStore, tenant: str, *, name: str = "errors") -> StoredRule:
    with as_tenant(tenant):
        async with store.transaction() as transaction:
            revision = await transaction.rules.take_revision()
            stored = create(complete(replace(DRAFT, name=name)), str(uuid4()), revision, now=NOW, tenant=tenant)
            await transaction.rules.upsert(stored, RuleEdit.CREATED)
    return stored


async def fire(store: PostgresStore, tenant: str, resource: str) -> str:
    with as_tenant(tenant):
        async with store.transaction() as transaction:
            transition = a_transition(subject=a_subject(resource))
            context = await transaction.alerts.load_for_update([transition], expected_new=())
            _, (outcome,) = decide(context, [transition], NOW)
            assert outcome.change is not None
            await transaction.transitions.insert([transition])
            await transaction.alerts.save([(outcome.change, ())])
    return outcome.change.alert.id


async def test_rules_of_another_tenant_are_not_there_and_may_have_the_same_names(database: Database) -> None:
    store, reader = PostgresStore(database), PostgresRuleReader(database)
    mine, other = await create_rule(store, "acme"), await create_rule(store, "default")
    assert mine.rule.id != other.rule.id
    with as_tenant("acme"):
        assert await reader.get(mine.rule.id) == mine
        assert await reader.get(other.rule.id) is None
        assert await reader.list_page(Page()) == [mine]
        async with store.transaction() as transaction:
            assert await transaction.rules.count() == 1
            assert await transaction.rules.get_for_update(other.rule.id) is None
            await transaction.rules.delete(other, await transaction.rules.take_revision(), NOW)
    assert await reader.get(other.rule.id) == other
    assert await reader.list_page(Page()) == [other]


async def test_evaluators_are_sent_the_rules_of_all_tenants_with_their_tenants(database: Database) -> None:
    store, reader = PostgresStore(database), PostgresRuleReader(database)
    mine, other = await create_rule(store, "acme"), await create_rule(store, "default", name="other")
    with as_tenant(ALL_TENANTS):
        snapshot = await reader.snapshot()
    assert [(each.rule.id, each.rule.tenant) for each in snapshot.rules] == [
        (mine.rule.id, "acme"),
        (other.rule.id, "default"),
    ]
    assert snapshot.of_tenant("acme").rules == (mine,)
    with as_tenant("acme"):
        async with store.transaction() as transaction:
            await transaction.rules.delete(mine, await transaction.rules.take_revision(), NOW)
    with as_tenant(ALL_TENANTS):
        changes = await reader.changes_since(snapshot.revision)
    assert (changes.removed, changes.removed_from) == ((mine.rule.id,), {mine.rule.id: "acme"})
    assert snapshot.apply(changes).of_tenant("default").removed == {}
    assert list(snapshot.apply(changes).of_tenant("acme").removed) == [mine.rule.id]


async def test_what_evaluators_report_is_stored_with_the_tenant_of_each_rule(database: Database) -> None:
    store = PostgresStore(database)
    statistics, problems = PostgresRuleStatisticsReader(database), PostgresRuleProblemReader(database)
    rules = {tenant: await create_rule(store, tenant) for tenant in ("acme", "default")}
    ids = {tenant: stored.rule.id for tenant, stored in rules.items()}
    problem = ReportedProblem(
        instance="e1", reason=ProblemReason.OVER_BUDGET, description="slow", set_aside_time=NOW, retry_time=None
    )
    with as_tenant(ALL_TENANTS):
        async with store.transaction() as transaction:
            await transaction.rule_statistics.add({each: RuleStatistics(matched=2) for each in ids.values()})
            stored = await transaction.rule_problems.load_for_update("e1")
            report = apply_report(stored, dict.fromkeys(ids.values(), problem), NOW)
            await transaction.rule_problems.save("e1", report, NOW)
    for tenant, foreign in (("acme", "default"), ("default", "acme")):
        with as_tenant(tenant):
            found = await statistics.get(ids[tenant])
            assert found is not None
            assert found.matched == 2
            assert await statistics.get(ids[foreign]) is None
            assert list(await problems.list_current(list(ids.values()), NOW - timedelta(days=1))) == [ids[tenant]]
            assert len(await problems.history(ids[tenant], 10)) == 2
            assert await problems.history(ids[foreign], 10) == []
    with as_tenant("acme"):
        async with store.transaction() as transaction:
            await transaction.rule_statistics.add({ids["default"]: RuleStatistics(matched=5)})
    assert (await statistics.get(ids["default"])) == RuleStatistics(matched=2)


async def test_alerts_and_their_histories_of_another_tenant_are_not_there(database: Database) -> None:
    store, reader, matched = (
        PostgresStore(database),
        PostgresAlertReader(database),
        PostgresMatchedAlertReader(database),
    )
    mine, other = await fire(store, "acme", "payments"), await fire(store, "default", "orders")
    with as_tenant("acme"):
        assert [each.id for each in await reader.list_page(AlertFilter(), Page())] == [mine]
        assert [each.id for each in await reader.list_page(AlertFilter(resource="orders"), Page())] == []
        assert [each.id for each in await reader.list_open()] == [mine]
        assert [each.id for each in await reader.list_by_id([mine, other])] == [mine]
        assert await reader.get(other) is None
        assert await reader.version(other) is None
        assert [each.id for each in await matched.list_open()] == [mine]
        assert [each.id for each in await matched.list_recent(NOW - timedelta(days=400), 10)] == [mine]
        async with store.transaction() as transaction:
            assert await transaction.alerts.get_for_update(other) is None
            assert await transaction.alerts.lock_open([other]) == []
            assert await transaction.alerts.list_open_for_update("rule-1", before=2**40, limit=10) != []
            assert [each.alert.id for each in await transaction.incidents.list_seen(10)] == [mine]
            assert list(await transaction.notifications.load_alerts([mine, other])) == [mine]
    found = await reader.get(other)
    assert found is not None
    assert len(found[1]) == 1


async def test_an_alert_of_the_same_group_is_not_taken_for_another_tenants(database: Database) -> None:
    # Ids of rules are never the same; but should they be, nothing is mixed.
    store = PostgresStore(database)
    await fire(store, "default", "payments")
    with as_tenant("acme"):
        async with store.transaction() as transaction:
            transition = a_transition(subject=a_subject("payments"))
            context = await transaction.alerts.load_for_update([transition], expected_new=())
    assert context.open_alerts == {}
    assert context.histories == {}


async def test_each_tenant_is_alone_with_its_incidents_and_its_request_ids(database: Database) -> None:
    store, reader = PostgresStore(database), PostgresIncidentReader(database)
    request = str(uuid4())
    async with store.transaction() as first:
        assert await first.incidents.try_lock() == 1
        assert await first.requests.insert(request, "digest", now=NOW) is None
        await first.requests.update_response(request, b"the response")
        with as_tenant("acme"):
            async with store.transaction() as second:
                assert await second.incidents.try_lock() == 1
                assert await second.requests.insert(request, "digest", now=NOW) is None
                await second.requests.update_response(request, b"mine")
            assert await reader.list_page(IncidentFilter(), Page()) == []
            assert await reader.revision() == 0
    async with store.transaction() as later:
        assert await later.requests.insert(request, "digest", now=NOW) == ("digest", b"the response")


async def test_retention_counts_and_purges_the_rows_of_all_tenants(database: Database) -> None:
    store, retention = PostgresStore(database), PostgresRetention(database)
    await create_rule(store, "acme")
    await fire(store, "default", "orders")
    await fire(store, "acme", "payments")
    counts = await retention.count()
    assert (counts.rules, counts.open_alerts) == (1, 2)


async def test_a_tenant_is_known_from_its_first_transaction_on(database: Database) -> None:
    names = TenantNames(database)
    before = list(names.known)
    await create_rule(PostgresStore(database), "acme")
    await names.refresh()
    assert (before, list(names.known)) == (["default"], ["acme", "default"])


async def test_a_caller_whose_tenant_has_no_valid_name_reads_nothing(database: Database) -> None:
    reader = PostgresRuleReader(database)
    for tenant in (ALL_TENANTS, "", "a'; RESET ROLE; --", "Acme", "a" * 64):
        with (
            as_caller(Caller(name="k", role="viewer", tenant=tenant, kind="token")),
            pytest.raises(PermissionDenied, match="tenant"),
        ):
            await reader.list_page(Page())
