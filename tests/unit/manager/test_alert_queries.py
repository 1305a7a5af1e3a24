"""Which alerts a caller gets, page by page."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.failures import InvalidRequest
from services.contract.paging import encode_page_token, filters_of
from services.manager.core.transitions import TransitionContext, decide
from services.manager.messages.alerts import derived_labels
from services.manager.rpc import pages
from services.manager.rpc.alert_queries import select_page
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryAlertReader
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

MESSAGES = [
    Alert(labels={"team": "a", "tier": "1"}, group={"service": "shop"}),
    Alert(labels={"team": "b"}, group={"user.tier": "silver"}, samples=[SampleEvent(service="shop")]),
    Alert(labels={"team": "a"}, group={"service": "pay"}, samples=[SampleEvent(service="shop")]),
    Alert(),
]


@pytest.fixture
def reader() -> MemoryAlertReader:
    """Alerts with these contents, one a minute, the last one first in a list."""
    store = MemoryStore()
    for n, message in enumerate(MESSAGES):
        subject = replace(a_subject(f"r{n}"), evidence=message.SerializeToString(), rule_name=f"rule {n % 2}")
        subject = replace(subject, labels=derived_labels(subject.rule_name, subject.severity, subject.evidence))
        context, _ = decide(TransitionContext(), [a_transition(subject=subject)], NOW)
        (alert,) = context.open_alerts.values()
        store.tables.alerts[alert.id] = replace(alert, fire_time=NOW + timedelta(minutes=n))
    return MemoryAlertReader(store)


async def found(reader: MemoryAlertReader, request: ListAlertsRequest) -> tuple[list[str], str]:
    alerts, last = await select_page(reader, request, filters=filters_of(request))
    return [alert.resource for alert in alerts], encode_page_token(last, filters=filters_of(request)) if last else ""


@pytest.mark.parametrize(
    ("request_", "resources"),
    [
        pytest.param(ListAlertsRequest(labels=["team=a"]), ["r2", "r0"], id="a label"),
        pytest.param(ListAlertsRequest(labels=["team=a", "tier=1"]), ["r0"], id="two labels"),
        pytest.param(ListAlertsRequest(labels=["team=a", "team=b"]), [], id="two values of one label"),
        pytest.param(ListAlertsRequest(labels=["tier="]), [], id="a missing label is not an empty one"),
        pytest.param(ListAlertsRequest(service="shop"), ["r1", "r0"], id="the group's service, else that of a sample"),
        pytest.param(ListAlertsRequest(service="shop", labels=["team=b"]), ["r1"], id="service and label"),
        pytest.param(ListAlertsRequest(rule_name="rule 1"), ["r3", "r1"], id="the rule's name"),
        pytest.param(ListAlertsRequest(matchers=["team=a"]), ["r2", "r0"], id="a matcher"),
        pytest.param(ListAlertsRequest(matchers=['{service=~"s.*|p.*", team!=b}', 'tier=""']), ["r2"], id="matchers"),
        pytest.param(ListAlertsRequest(matchers=['alertname="rule 1"']), ["r3", "r1"], id="the store's rule name"),
        pytest.param(ListAlertsRequest(matchers=["severity=HIGH, tier=1"]), ["r0"], id="the store's severity"),
        pytest.param(
            ListAlertsRequest(matchers=["severity=LOW"], severities=[AlertRule.HIGH]), [], id="both say a severity"
        ),
        pytest.param(ListAlertsRequest(matchers=["severity=NONE"]), [], id="no severity"),
        pytest.param(ListAlertsRequest(matchers=['alertname="rule 1"'], rule_name="rule 0"), [], id="both say a name"),
        pytest.param(ListAlertsRequest(), ["r3", "r2", "r1", "r0"], id="all"),
    ],
)
async def test_alerts_are_filtered(
    reader: MemoryAlertReader, request_: ListAlertsRequest, resources: list[str]
) -> None:
    assert await found(reader, request_) == (resources, "")


async def test_alerts_are_found_by_the_beginning_of_their_id(reader: MemoryAlertReader) -> None:
    (alert, *_), _ = await select_page(reader, ListAlertsRequest(), filters="")
    resources, _ = await found(reader, ListAlertsRequest(id_prefix=alert.id[:8].upper()))
    assert resources == [alert.resource]


@pytest.mark.parametrize("field", ["labels", "matchers"])
@pytest.mark.parametrize(("size", "labels"), [(1, ["team=a"]), (2, ["team=a"]), (1, []), (3, ["team=none"])])
@pytest.mark.parametrize("scanned", [1, 10])
async def test_pages_of_filtered_alerts_show_each_once(
    reader: MemoryAlertReader, monkeypatch: pytest.MonkeyPatch, size: int, labels: list[str], scanned: int, field: str
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_SIZE", 1)
    monkeypatch.setattr(pages, "_MAX_SCANNED_PAGES", scanned)
    request = ListAlertsRequest(page_size=size, **{field: labels})  # type: ignore[arg-type]
    seen: list[str] = []
    for _ in range(9):
        resources, request.page_token = await found(reader, request)
        assert len(resources) <= size
        seen += resources
        if not request.page_token:
            break
    else:
        pytest.fail("the pages do not end")
    monkeypatch.setattr(pages, "_MAX_SCANNED_PAGES", 10)
    whole, _ = await found(reader, ListAlertsRequest(**{field: labels}))  # type: ignore[arg-type]
    assert seen == whole


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(ListAlertsRequest(labels=["a=b", "c"]), "labels[1]", id="no value"),
        pytest.param(ListAlertsRequest(labels=["=b"]), "labels[0]", id="no name"),
        pytest.param(ListAlertsRequest(labels=["a=b"] * 21), "labels", id="too many"),
        pytest.param(ListAlertsRequest(matchers=["a=b", "c"]), "matchers[1]", id="no matcher"),
        pytest.param(ListAlertsRequest(matchers=["a=~("]), "matchers[0]", id="no pattern"),
        pytest.param(ListAlertsRequest(matchers=["a=b"] * 9), "matchers", id="too many texts"),
        pytest.param(ListAlertsRequest(id_prefix="a" * 37), "idPrefix", id="longer than an id"),
    ],
)
async def test_a_filter_that_is_wrong_is_named(
    reader: MemoryAlertReader, request_: ListAlertsRequest, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await found(reader, request_)
    assert [violation.field for violation in refused.value.violations] == [field]
