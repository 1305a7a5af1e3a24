"""The labels by which an alert is matched: by silences, filters of lists, and what else selects alerts.

Where several say something of one label, the first of these decides: the reserved labels `alertname` and `severity`,
the group's fields, the service that the rule's expressions name, the rule's labels, the catalog's labels. A label whose
value is empty is missing.
"""

from collections.abc import Iterator, Mapping

from services.domain.matchers import ALERTNAME, SERVICE, SEVERITY
from services.domain.severity import Severity
from services.rule_language.checking import check_filter
from services.rule_language.diagnostics import ExpressionError
from services.rule_language.rule import Rule
from services.rule_language.syntax_tree import Call, Constant, FieldRef, Listing, conjuncts


def labels_of(
    *,
    rule_name: str,
    severity: Severity,
    service: str,
    group: Mapping[str, str],
    rule_labels: Mapping[str, str],
    catalog_labels: Mapping[str, str],
) -> dict[str, str]:
    """Return the labels of an alert. `service` is the constant one of its rule, which a group's field overrides."""
    named = {SERVICE: service} if service else {}
    reserved = {ALERTNAME: rule_name, SEVERITY: severity.name}
    labels = {**catalog_labels, **rule_labels, **named, **group, **reserved}
    return {name: value for name, value in labels.items() if value}


def constant_service(rule: Rule) -> str:
    """Return the one service of which a rule selects events, by `service == "…"` in its scope or filter.

    Empty when there is none, or when the expressions cannot be read here. This compiles them if they name the service.
    """
    if SERVICE in rule.group_by:
        return ""
    try:
        found = [name for text in (rule.scope, rule.filter) if SERVICE in text for name in _services(text)]
    except ExpressionError:
        return ""
    return found[0] if found else ""


def _services(text: str) -> Iterator[str]:
    for part in conjuncts(check_filter(text).tree):
        match part:
            case (
                Call(function="==", arguments=(FieldRef(name="service"), Constant(value=str(service))))
                | Call(function="==", arguments=(Constant(value=str(service)), FieldRef(name="service")))
                | Call(
                    function="in",
                    arguments=(FieldRef(name="service"), Listing(elements=(Constant(value=str(service)),))),
                )
            ):
                yield service
