"""Which open alert withholds notifications of another one, by a rule of the routing tree or by a dependency.

By a rule: an alert that matches its source inhibits those that match its target and have the same values of labels, as
Alertmanager does it. By a dependency, where a route of an alert says so: while a service on which the alert's service
depends over at most two edges has an alert of at least the same severity that is not silenced. Services that depend on
each other do not inhibit each other: then nobody would be notified.

An alert is looked at when it comes, and again when what inhibits it has ended or has changed; whoever was notified of
it before stays so. Its inhibitor is found by an index: of each rule by the values that must be equal, of services by
severity. So an alert costs the rules and the services around its own, not the number of open alerts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.domain.matchers import all_match
from services.domain.severity import Severity
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.incident import IncidentAlert, WithheldReason, Withholding
from services.manager.core.routing_tree import InhibitionRule

_MAX_EDGES = 2
_INHIBITED = frozenset({WithheldReason.INHIBITED_BY_RULE, WithheldReason.INHIBITED_BY_DEPENDENCY})

# Of a rule by its place: the values that must be equal, and whether the source matches the target too.
_RuleKey = tuple[int, tuple[str, ...], bool]
_ServiceKey = tuple[str, Severity]
_Ids = dict[str, None]
_Key = TypeVar("_Key")


@dataclass(slots=True)
class _Source:
    """An open alert as it inhibits others, and where the index has it."""

    alert: IncidentAlert
    rule_keys: list[_RuleKey] = field(default_factory=list)
    service_key: _ServiceKey | None = None


class Inhibitors:
    """The open alerts, as they inhibit others, and those that they do inhibit. Changed in place."""

    def __init__(self, rules: Sequence[InhibitionRule] = (), alerts: Iterable[IncidentAlert] = ()) -> None:
        self.rules = tuple(rules)
        self._sources: dict[str, _Source] = {}
        self._by_rule: dict[_RuleKey, _Ids] = {}
        self._by_service: dict[_ServiceKey, _Ids] = {}
        # By the alert that inhibits them.
        self._inhibited: dict[str, _Ids] = {}
        self._outdated: _Ids = {}
        # Those whose inhibitor was not known when they came.
        self._unsure: _Ids = {}
        for alert in alerts:
            self.put(alert)

    def put(self, alert: IncidentAlert) -> None:
        """Take an alert as it is now; an alert that has ended inhibits none."""
        known = self._sources.get(alert.id)
        if known is not None and _is_same(known.alert, alert) and alert.is_open:
            self._remember_inhibitor(alert)
            return
        self._remove(alert.id)
        if alert.is_open:
            self._add(alert)
            self._remember_inhibitor(alert)

    def pop_outdated(self) -> list[str]:
        """Return the alerts whose inhibitor has ended or changed since they were asked for last."""
        unsure = {each: None for each in self._unsure if each in self._sources and not self._has_inhibitor(each)}
        outdated = list(self._outdated | unsure)
        self._outdated.clear()
        self._unsure.clear()
        return outdated

    def inhibited(self) -> list[str]:
        """Return all alerts that are inhibited."""
        return [alert_id for ids in self._inhibited.values() for alert_id in ids]

    def inhibition_of(self, alert: IncidentAlert, graph: DependencyGraph) -> Withholding | None:
        """Return what inhibits an alert now; None where nothing does."""
        return self._by_rules(alert) or self._by_dependency(alert, graph)

    def _by_rules(self, alert: IncidentAlert) -> Withholding | None:
        for place, rule in enumerate(self.rules):
            values = _equal_values(rule, alert)
            if values is None or not all_match(rule.target, alert.labels):
                continue
            # Two alerts that are sources and targets alike do not inhibit each other.
            kinds = (False,) if all_match(rule.source, alert.labels) else (False, True)
            for is_target in kinds:
                found = _choose(self._by_rule.get((place, values, is_target)), alert)
                if found is not None:
                    reason, comment = WithheldReason.INHIBITED_BY_RULE, f"inhibition rule {place + 1}"
                    return Withholding(reason=reason, by=found, comment=comment)
        return None

    def _by_dependency(self, alert: IncidentAlert, graph: DependencyGraph) -> Withholding | None:
        if not alert.service or not any(route.inhibits_dependents for route in alert.routes):
            return None
        circular = graph.dependents(alert.service, _MAX_EDGES)
        distances = graph.depends_on(alert.service, _MAX_EDGES)
        for service, distance in sorted(distances.items(), key=lambda item: (item[1], item[0])):
            found = None if service in circular else self._of_service(service, alert)
            if found is not None:
                path = graph.path(alert.service, service, distance) or ()
                reason, comment = WithheldReason.INHIBITED_BY_DEPENDENCY, " → ".join(path)
                return Withholding(reason=reason, by=found, comment=comment)
        return None

    def _of_service(self, service: str, alert: IncidentAlert) -> str | None:
        """Return an alert of a service that has at least an alert's severity."""
        severities = (each for each in sorted(Severity, reverse=True) if each >= alert.severity)
        found = (_choose(self._by_service.get((service, each)), alert) for each in severities)
        return next((each for each in found if each is not None), None)

    def _add(self, alert: IncidentAlert) -> None:
        source = _Source(alert)
        for place, rule in enumerate(self.rules):
            values = _equal_values(rule, alert)
            if values is not None and all_match(rule.source, alert.labels):
                source.rule_keys.append((place, values, all_match(rule.target, alert.labels)))
        if alert.service and not _is_silenced(alert):
            source.service_key = alert.service, alert.severity
            self._by_service.setdefault(source.service_key, {})[alert.id] = None
        for key in source.rule_keys:
            self._by_rule.setdefault(key, {})[alert.id] = None
        self._sources[alert.id] = source

    def _remove(self, alert_id: str) -> None:
        source = self._sources.pop(alert_id, None)
        if source is None:
            return
        for key in source.rule_keys:
            _discard(self._by_rule, key, alert_id)
        if source.service_key is not None:
            _discard(self._by_service, source.service_key, alert_id)
        for each in _inhibitors_of(source.alert):
            _discard(self._inhibited, each, alert_id)
        self._outdated |= self._inhibited.get(alert_id, {})

    def _remember_inhibitor(self, alert: IncidentAlert) -> None:
        source = self._sources[alert.id]
        for each in _inhibitors_of(source.alert):
            _discard(self._inhibited, each, alert.id)
        for each in _inhibitors_of(alert):
            self._inhibited.setdefault(each, {})[alert.id] = None
            if each not in self._sources:
                # It has ended, or comes later.
                self._unsure[alert.id] = None
        source.alert = alert

    def _has_inhibitor(self, alert_id: str) -> bool:
        return all(each in self._sources for each in _inhibitors_of(self._sources[alert_id].alert))


def inhibition_among(withheld_by: Iterable[Withholding]) -> tuple[Withholding, ...]:
    """Return those reasons that another alert is."""
    return tuple(each for each in withheld_by if each.reason in _INHIBITED)


def _inhibitors_of(alert: IncidentAlert) -> list[str]:
    return [each.by for each in inhibition_among(alert.withheld_by)]


def _is_same(before: IncidentAlert, after: IncidentAlert) -> bool:
    """Return whether an alert inhibits the same ones as before."""
    return before.labels == after.labels and _dependency_facts(before) == _dependency_facts(after)


def _dependency_facts(alert: IncidentAlert) -> tuple[str, Severity, bool]:
    return alert.service, alert.severity, _is_silenced(alert)


def _is_silenced(alert: IncidentAlert) -> bool:
    return any(each.reason is WithheldReason.SILENCED for each in alert.withheld_by)


def _equal_values(rule: InhibitionRule, alert: IncidentAlert) -> tuple[str, ...] | None:
    """Return the values that must be equal; None where one is absent: that is equal to nothing."""
    values = tuple(alert.labels.get(name, "") for name in rule.equal)
    return values if all(values) else None


def _choose(ids: _Ids | None, alert: IncidentAlert) -> str | None:
    """Return one of some alerts that is not this one: if it may be, the one that inhibits it already."""
    if not ids:
        return None
    kept = next((each for each in _inhibitors_of(alert) if each in ids), None)
    return kept or next((each for each in ids if each != alert.id), None)


def _discard(index: dict[_Key, _Ids], key: _Key, alert_id: str) -> None:
    ids = index.get(key)
    if ids is not None:
        ids.pop(alert_id, None)
        if not ids:
            del index[key]
