"""The labels of the evaluator's transitions, with what only the rules say."""

from collections.abc import Iterable, Mapping

from services.domain.matchers import SERVICE
from services.domain.severity import Severity
from services.manager.core.labels import constant_service, labels_of
from services.manager.ports.feeds import CatalogFeed, RuleFeed
from services.rule_language.rule import Rule
from tocsin.alerts.v1.alert_pb2 import AlertTransition


class TransitionLabels:
    """Makes labels; what the expressions of the enabled rules say of a service is found once for each revision."""

    def __init__(self, rules: RuleFeed, catalog: CatalogFeed) -> None:
        self._feed = rules
        self._catalog = catalog
        self._version = ""
        self._rules: Mapping[str, Rule] = {}
        # By rule id, with the revision for which it holds.
        self._services: dict[str, tuple[int, str]] = {}

    async def refresh(self, messages: Iterable[AlertTransition]) -> None:
        """Make the known rules as new as these transitions, as far as their services are asked for. Raises Failure."""
        newest = max((each.rule_revision for each in messages if SERVICE not in each.group), default=0)
        if newest > self._feed.current.revision:
            await self._feed.refresh()

    def labels_of(self, message: AlertTransition) -> dict[str, str]:
        """Return the labels of a transition, which has a severity."""
        named = "" if SERVICE in message.group else self._service_of(message.rule_id)
        service = named or message.group.get(SERVICE) or message.labels.get(SERVICE, "")
        return labels_of(
            rule_name=message.rule_name,
            severity=Severity(message.severity),
            service=named,
            group=message.group,
            rule_labels=message.labels,
            catalog_labels=self._catalog.current.labels_of(service),
        )

    def _service_of(self, rule_id: str) -> str:
        if self._feed.current.version != self._version:
            self._version = self._feed.current.version
            self._rules = {stored.rule.id: stored.rule for stored in self._feed.current.rules}
            self._services = {name: known for name, known in self._services.items() if name in self._rules}
        rule = self._rules.get(rule_id)
        if rule is None:
            return ""
        known = self._services.get(rule_id)
        if known is None or known[0] != rule.revision:
            known = self._services[rule_id] = rule.revision, constant_service(rule)
        return known[1]
