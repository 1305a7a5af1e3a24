"""Reads a routes file, already parsed from YAML, and reports all of its problems at once."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import cast

from services.domain.found_values import expected, unknown_name
from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT
from services.notifier.core.channels import CHANNEL_KINDS, ChannelSpec
from services.notifier.core.channels.fields import ChannelFields, References, ReportProblem
from services.notifier.core.routing import Route, Routes

# Of channels and receivers.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_RECEIVERS = 200
_PARTS = ("channels", "receivers", "routes")
_PARTS_OF_ROUTE = ("severity", "labels", "channels")
_DEFAULT_WORKERS = 8
_MAX_WORKERS = 64
_DEFAULT_TIMEOUT_S = 5.0
_MAX_TIMEOUT_S = 60.0


class RoutesError(ValueError):
    """A routes file that cannot be used; `problems` names each place, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_routes(document: object, references: References) -> Routes:
    """Return the routes that a document describes. Raises RoutesError."""
    problems: list[str] = []
    top = _mapping(document, "the file", problems.append, f"a mapping with {', '.join(_PARTS)}")
    if problems:
        raise RoutesError(problems)
    _check_keys(top, _PARTS, "", problems.append)
    channels = _channels(top.get("channels"), references, problems.append)
    names = frozenset(_mapping(top.get("channels"), "channels", lambda _: None))
    for spec in channels.values():
        _check_names(spec.fallback, names - {spec.name}, f"channels.{spec.name}.fallback", problems.append)
    receivers = _receivers(top.get("receivers", {}), names, problems.append)
    routes = _routes(top["routes"], names, problems.append) if "routes" in top else ()
    found = Routes(channels=channels, routes=routes, receivers=receivers)
    if not problems:
        problems += [*_mixed_tenants(found), *(_unrouted(found) if "routes" in top else ())]
    if problems:
        raise RoutesError(problems)
    return found


def _mixed_tenants(found: Routes) -> Iterator[str]:
    """Yield where channels of several tenants stand together, by which one would reach another's people."""
    listed = {f"channels.{name}.fallback": (name, *spec.fallback) for name, spec in found.channels.items()}
    listed |= {f"receivers.{name}": channels for name, channels in found.receivers.items()}
    listed |= {f"routes[{index}].channels": route.channels for index, route in enumerate(found.routes)}
    for place, channels in listed.items():
        tenants = sorted({found.channels[channel].tenant for channel in channels})
        if len(tenants) > 1:
            yield f"{place}: channels of several tenants, {', '.join(tenants)}; one tenant's are allowed"


def _unrouted(found: Routes) -> Iterator[str]:
    """Yield the severities that the routes without labels of a tenant with routes do not take."""
    tenants = {found.channels[route.channels[0]].tenant for route in found.routes} or {SOLE_TENANT}
    for tenant in sorted(tenants):
        general = [route.severities for route in found.of_tenant(tenant).routes if not route.labels]
        whose = "" if tenant == SOLE_TENANT else f" of tenant {tenant}"
        for severity in sorted(frozenset(Severity).difference(*general), reverse=True):
            yield f"routes: no route without labels{whose} takes {severity.name}: some alerts would go to nobody"


def _channels(node: object, references: References, report: ReportProblem) -> dict[str, ChannelSpec]:
    channels = {}
    bodies = _mapping(node, "channels", report)
    for name, body in bodies.items():
        fields = ChannelFields(
            place=f"channels.{name}",
            body=_mapping(body, f"channels.{name}", report),
            references=references,
            report=report,
        )
        spec = _channel(name, fields)
        if spec is not None:
            channels[name] = spec
    if bodies is node and not bodies:
        report("channels: names no channel")
    return channels


def _channel(name: str, fields: ChannelFields) -> ChannelSpec | None:
    """Return one channel; None when something was reported."""
    if not _check_name(name, "channels", fields.report):
        fields.problem_count += 1
    kind = fields.body.get("kind")
    if not isinstance(kind, str) or kind not in CHANNEL_KINDS:
        fields.refuse("kind", expected(f"one of {', '.join(CHANNEL_KINDS)}", kind))
        return None
    spec = ChannelSpec(
        name=name,
        settings=CHANNEL_KINDS[kind](fields),
        fallback=fields.strings("fallback", required=False),
        workers=int(fields.number("workers", _DEFAULT_WORKERS, maximum=_MAX_WORKERS)) or 1,
        timeout=timedelta(seconds=fields.number("timeout", _DEFAULT_TIMEOUT_S, maximum=_MAX_TIMEOUT_S)),
        tenant=fields.string("tenant", SOLE_TENANT),
    )
    if _TENANT.fullmatch(spec.tenant) is None:
        fields.refuse("tenant", "must be lower-case letters, digits and -, at most 63")
    for unknown in sorted(fields.body.keys() - fields.known):
        fields.refuse(unknown, f"{unknown_name(unknown, sorted(fields.known))} (kind {kind})")
    return None if fields.problem_count else spec


def _receivers(node: object, names: frozenset[str], report: ReportProblem) -> dict[str, tuple[str, ...]]:
    receivers = {}
    for name, value in _mapping(node, "receivers", report).items():
        _check_name(name, "receivers", report)
        if name in names:
            report(f"receivers.{name}: has the name of a channel, which is a receiver already")
        channels = _strings(value, f"receivers.{name}", report)
        _check_names(channels, names, f"receivers.{name}", report)
        receivers[name] = tuple(dict.fromkeys(channels))
    if len(receivers) + len(names) > _MAX_RECEIVERS:
        report(f"receivers: there are {len(receivers) + len(names)} with the channels; {_MAX_RECEIVERS} are allowed")
    return receivers


def _routes(node: object, names: frozenset[str], report: ReportProblem) -> tuple[Route, ...]:
    if not isinstance(node, list):
        report(f"routes: {expected('a list', node)}")
        return ()
    entries = cast("list[object]", node)
    return tuple(_route(entry, f"routes[{index}]", names, report) for index, entry in enumerate(entries))


def _route(node: object, place: str, names: frozenset[str], report: ReportProblem) -> Route:
    body = _mapping(node, place, report)
    _check_keys(body, _PARTS_OF_ROUTE, f"{place}.", report)
    channels = _strings(body.get("channels"), f"{place}.channels", report)
    _check_names(channels, names, f"{place}.channels", report)
    # Labels alone name some alerts; a route without both is a mistake.
    is_any_severity = bool(body.get("labels")) and "severity" not in body
    severity = list(Severity.__members__) if is_any_severity else body.get("severity")
    return Route(
        severities=_severities(severity, f"{place}.severity", report),
        channels=tuple(dict.fromkeys(channels)),
        labels={
            name: frozenset(_strings(value, f"{place}.labels.{name}", report))
            for name, value in _mapping(body.get("labels", {}), f"{place}.labels", report).items()
        },
    )


def _severities(node: object, place: str, report: ReportProblem) -> frozenset[Severity]:
    severities = set()
    for name in _strings(node, place, report):
        if name in Severity.__members__:
            severities.add(Severity[name])
        else:
            known = ", ".join(reversed(Severity.__members__))
            report(f"{place}: {expected(f'one of {known}', name)}")
    return frozenset(severities)


def _strings(node: object, place: str, report: ReportProblem) -> tuple[str, ...]:
    strings = node if isinstance(node, list) else [node]
    if not strings or not all(isinstance(string, str) and string for string in strings):
        report(f"{place}: {expected('a string or a list of strings', node)}")
        return ()
    return tuple(strings)


def _check_keys(node: Mapping[str, object], known: tuple[str, ...], prefix: str, report: ReportProblem) -> None:
    for unknown in sorted(node.keys() - set(known)):
        report(f"{prefix}{unknown}: {unknown_name(unknown, known)}")


def _check_name(name: str, place: str, report: ReportProblem) -> bool:
    if _NAME.fullmatch(name) is not None:
        return True
    report(f"{place}: {name!r} must be lower-case letters, digits, - and _, at most 63")
    return False


def _check_names(channels: tuple[str, ...], names: frozenset[str], place: str, report: ReportProblem) -> None:
    for channel in channels:
        if channel not in names:
            report(f"{place}: {channel!r} cannot be used here; there are {', '.join(sorted(names)) or 'no others'}")


def _mapping(
    node: object, place: str, report: ReportProblem, what: str = "a mapping whose keys are strings"
) -> Mapping[str, object]:
    if isinstance(node, Mapping) and all(isinstance(key, str) for key in node):
        return cast("Mapping[str, object]", node)
    report(f"{place}: {expected(what, node)}")
    return {}
