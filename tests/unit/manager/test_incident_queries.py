"""Which incidents a caller gets, page by page."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from services.chassis.failures import InvalidRequest
from services.contract.paging import encode_page_token, filters_of
from services.domain.severity import Severity
from services.manager.core.incident import Correlation, Incident, IncidentAlert
from services.manager.core.incident_changes import join, open_incident
from services.manager.rpc import pages
from services.manager.rpc.incident_queries import select_incidents
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW
from tocsin.incidents.v1.incident_pb2 import Incident as IncidentMessage
from tocsin.incidents.v1.incident_service_pb2 import ListIncidentsRequest

LABELS: list[list[Mapping[str, str]]] = [
    [{"team": "a", "tier": "1"}, {"team": "b"}],
    [{"team": "b", "tier": "2"}],
    [{"team": "a", "service": "shop"}],
    [{}],
]


def alert(name: str, labels: Mapping[str, str]) -> IncidentAlert:
    return IncidentAlert(
        id=name, rule_name="r", service="", resource=name, severity=Severity.HIGH, labels=labels, fire_time=NOW
    )


def incident(number: int, label_sets: list[Mapping[str, str]]) -> Incident:
    alerts = [alert(f"{number}-{n}", labels) for n, labels in enumerate(label_sets)]
    now = NOW + timedelta(minutes=number)
    whole = open_incident(alerts[0], now=now).incident
    for each in alerts[1:]:
        whole = join(whole, each, Correlation(), now=now).incident
    return whole


@pytest.fixture
def reader() -> MemoryIncidentReader:
    """Incidents of alerts with these labels, one a minute, the last one first in a list."""
    store = MemoryStore()
    for number, label_sets in enumerate(LABELS):
        made = incident(number, label_sets)
        store.tables.incidents.incidents[made.id] = made, 1
    return MemoryIncidentReader(store)


async def found(reader: MemoryIncidentReader, request: ListIncidentsRequest) -> tuple[list[int], str]:
    filters = filters_of(request)
    rows, last = await select_incidents(reader, request, filters=filters)
    numbers = [(row.incident.create_time - NOW) // timedelta(minutes=1) for row in rows]
    return numbers, encode_page_token(last, filters=filters) if last else ""


@pytest.mark.parametrize(
    ("matchers", "numbers"),
    [
        pytest.param([], [3, 2, 1, 0], id="all"),
        pytest.param(["team=a"], [2, 0], id="an alert of it"),
        pytest.param(["team=~a|b", 'tier!=""'], [1, 0], id="two matchers of one alert"),
        pytest.param(["team=b, tier=1"], [], id="of different alerts"),
        pytest.param(['team=""'], [3], id="a missing label"),
        pytest.param(["service=shop"], [2], id="a service"),
    ],
)
async def test_incidents_are_filtered_by_labels_of_their_alerts(
    reader: MemoryIncidentReader, matchers: list[str], numbers: list[int]
) -> None:
    assert await found(reader, ListIncidentsRequest(matchers=matchers)) == (numbers, "")


async def test_other_filters_hold_beside_matchers(reader: MemoryIncidentReader) -> None:
    request = ListIncidentsRequest(matchers=["team=a"], states=[IncidentMessage.RESOLVED])
    assert await found(reader, request) == ([], "")


@pytest.mark.parametrize(("size", "matchers"), [(1, ["team=a"]), (2, ["team=a"]), (1, []), (3, ["team=none"])])
@pytest.mark.parametrize("scanned", [1, 10])
async def test_pages_of_filtered_incidents_show_each_once(
    reader: MemoryIncidentReader, monkeypatch: pytest.MonkeyPatch, size: int, matchers: list[str], scanned: int
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_SIZE", 1)
    monkeypatch.setattr(pages, "_MAX_SCANNED_PAGES", scanned)
    request = ListIncidentsRequest(page_size=size, matchers=matchers)
    seen: list[int] = []
    for _ in range(9):
        numbers, request.page_token = await found(reader, request)
        assert len(numbers) <= size
        seen += numbers
        if not request.page_token:
            break
    else:
        pytest.fail("the pages do not end")
    monkeypatch.setattr(pages, "_MAX_SCANNED_PAGES", 10)
    assert seen == (await found(reader, ListIncidentsRequest(matchers=matchers)))[0]


async def test_a_page_token_belongs_to_its_matchers(reader: MemoryIncidentReader) -> None:
    _, token = await found(reader, ListIncidentsRequest(page_size=1, matchers=["team=a"]))
    with pytest.raises(InvalidRequest) as refused:
        await found(reader, ListIncidentsRequest(page_size=1, matchers=["team=b"], page_token=token))
    assert [violation.field for violation in refused.value.violations] == ["pageToken"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(ListIncidentsRequest(matchers=["a=b", "c"]), "matchers[1]", id="no matcher"),
        pytest.param(ListIncidentsRequest(matchers=["a=b"] * 9), "matchers", id="too many texts"),
        pytest.param(ListIncidentsRequest(id_prefix="a" * 37), "idPrefix", id="longer than an id"),
        pytest.param(ListIncidentsRequest(states=[9]), "states[0]", id="no state"),  # type: ignore[list-item]
    ],
)
async def test_a_filter_that_is_wrong_is_named(
    reader: MemoryIncidentReader, request_: ListIncidentsRequest, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await found(reader, request_)
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_a_state_that_is_none_is_shown_with_those_that_are(reader: MemoryIncidentReader) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await found(reader, ListIncidentsRequest(states=[1, 9, 0]))  # type: ignore[list-item]
    assert [(violation.field, violation.description) for violation in refused.value.violations] == [
        ("states[1]", "found 9, expected one of OPEN, ACKNOWLEDGED, RESOLVED"),
        ("states[2]", "is required: one of OPEN, ACKNOWLEDGED, RESOLVED"),
    ]
