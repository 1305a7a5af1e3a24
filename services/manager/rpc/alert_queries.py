"""Which alerts a caller asks for, and one page of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.chassis.failures import Violation
from services.domain.found_values import expected
from services.domain.matchers import ALERTNAME, SEVERITY, LabelMatcher, MatchOperator, all_match
from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertFilter
from services.manager.core.alert_lifecycle import AlertState
from services.manager.messages.alerts import alert_message, alert_state_of
from services.manager.ports.readers import AlertReader, Page
from services.manager.rpc.pages import TimeKey, page_by_time, scan_page
from services.manager.rpc.requests import (
    check_choices,
    check_length,
    optional_time,
    read_matchers,
    read_severities,
    refuse_if_any,
)
from tocsin.alerts.v1 import alert_service_pb2 as pb
from tocsin.alerts.v1.alert_pb2 import Alert as AlertMessage

_MAX_LABELS = 20
_MAX_ID = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFilter:
    """What must hold of an alert's evidence and labels, and the store does not evaluate.

    An empty field holds of every alert.
    """

    labels: tuple[tuple[str, str], ...]
    service: str
    matchers: tuple[LabelMatcher, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether every alert is selected."""
        return not (self.labels or self.service or self.matchers)

    def selects(self, alert: AlertMessage) -> bool:
        """Return whether all fields hold."""
        if not all_match(self.matchers, alert.match_labels):
            return False
        # A label that is missing differs from every value, also from the empty one.
        if any(alert.labels.get(name) != value for name, value in self.labels):
            return False
        services = [alert.group["service"]] if "service" in alert.group else [each.service for each in alert.samples]
        return not self.service or self.service in services


async def select_page(
    reader: AlertReader, request: pb.ListAlertsRequest, *, filters: str
) -> tuple[list[AlertMessage], TimeKey | None]:
    """Return the alerts of a page, and the key of the last one that was looked at when there may be more."""
    matchers = read_matchers("matchers", request.matchers)
    wanted = _narrowed(_list_filter(request), matchers)
    content = ContentFilter(labels=_labels(request), service=request.service, matchers=matchers)
    return await _select(reader, wanted, content, page_by_time(request.page_size, request.page_token, filters=filters))


def watch_filter(request: pb.WatchAlertsRequest) -> AlertFilter:
    """Return which alerts a watcher asks for."""
    return AlertFilter(
        severities=read_severities(request.severities), rule_id=request.rule_id, resource=request.resource
    )


def _list_filter(request: pb.ListAlertsRequest) -> AlertFilter:
    check_length(request, id_prefix=_MAX_ID)
    return AlertFilter(
        states=_states(request),
        severities=read_severities(request.severities),
        rule_id=request.rule_id,
        resource=request.resource,
        fired_after=optional_time(request, "fired_after"),
        fired_before=optional_time(request, "fired_before"),
        id_prefix=request.id_prefix.lower(),
        rule_name=request.rule_name,
    )


def _narrowed(wanted: AlertFilter, matchers: Sequence[LabelMatcher]) -> AlertFilter:
    """Return the filter with what the store can evaluate of the matchers: the rule's name and the severity."""
    equal = {matcher.name: matcher.value for matcher in matchers if matcher.operator is MatchOperator.EQUAL}
    severity = equal.get(SEVERITY, "")
    if severity in Severity.__members__ and not wanted.severities:
        wanted = replace(wanted, severities=(Severity[severity],))
    return replace(wanted, rule_name=wanted.rule_name or equal.get(ALERTNAME, ""))


async def _select(
    reader: AlertReader, wanted: AlertFilter, content: ContentFilter, page: Page
) -> tuple[list[AlertMessage], TimeKey | None]:
    def select(alert: Alert) -> AlertMessage | None:
        message = alert_message(alert)
        return message if content.selects(message) else None

    return await scan_page(
        lambda scan: reader.list_page(wanted, scan), page, select, _page_key, selects_all=content.is_empty
    )


def _labels(request: pb.ListAlertsRequest) -> tuple[tuple[str, str], ...]:
    if len(request.labels) > _MAX_LABELS:
        refuse_if_any(Violation("labels", f"more than {_MAX_LABELS}"))
    pairs = [label.partition("=") for label in request.labels]
    refuse_if_any(
        *(
            Violation(f"labels[{n}]", expected("name=value", request.labels[n]))
            for n, (name, equals, _) in enumerate(pairs)
            if not (name and equals)
        )
    )
    return tuple((name, value) for name, _, value in pairs)


def _page_key(alert: Alert) -> TimeKey:
    return alert.fire_time.isoformat(), alert.id


def _states(request: pb.ListAlertsRequest) -> tuple[AlertState, ...]:
    check_choices("states", request.states, AlertMessage.State.items()[1:])
    return tuple(map(alert_state_of, request.states))
