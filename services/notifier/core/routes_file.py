"""Reads a routes file, already parsed from YAML, and reports all of its problems at once."""

from collections.abc import Callable, Mapping
from typing import cast

from services.domain.severity import Severity
from services.notifier.core.channel import ChannelSpec
from services.notifier.core.channel_fields import World, channel_of
from services.notifier.core.routing import Route, Routes

Report = Callable[[str], None]


class RoutesError(ValueError):
    """A routes file that cannot be used; `problems` names each place, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def routes_of(document: object, world: World) -> Routes:
    """The routes that a document describes. Raises RoutesError."""
    problems: list[str] = []
    top = _mapping(document, "the file", problems.append)
    unknown = sorted(top.keys() - {"channels", "routes"})
    problems += [f"{name} is not known; there are channels and routes" for name in unknown]
    channels = _channels(top.get("channels"), world, problems.append)
    names = frozenset(_mapping(top.get("channels"), "channels", lambda _: None))
    for spec in channels.values():
        _check_names(spec.fallback, names - {spec.name}, f"channels.{spec.name}.fallback", problems.append)
    routes = _routes(top.get("routes"), names, problems.append)
    if problems:
        raise RoutesError(problems)
    return Routes(channels=channels, routes=routes)


def _channels(node: object, world: World, report: Report) -> dict[str, ChannelSpec]:
    found = {}
    for name, body in _mapping(node, "channels", report).items():
        spec = channel_of(name, _mapping(body, f"channels.{name}", report), world, report)
        if spec is not None:
            found[name] = spec
    if not _mapping(node, "channels", lambda _: None):
        report("channels names no channel")
    return found


def _routes(node: object, names: frozenset[str], report: Report) -> tuple[Route, ...]:
    if not isinstance(node, list):
        report("routes must be a list")
        return ()
    entries = cast("list[object]", node)
    routes = tuple(_route(entry, f"routes[{index}]", names, report) for index, entry in enumerate(entries))
    told = frozenset[Severity]().union(*(route.severities for route in routes if not route.labels))
    for severity in sorted(frozenset(Severity) - told, reverse=True):
        report(f"no route without labels takes {severity.name}: some alerts would be told to nobody")
    return routes


def _route(node: object, place: str, names: frozenset[str], report: Report) -> Route:
    body = _mapping(node, place, report)
    for unknown in sorted(body.keys() - {"severity", "labels", "channels"}):
        report(f"{place}.{unknown} is not known; there are severity, labels and channels")
    channels = _words(body.get("channels"), f"{place}.channels", report)
    _check_names(channels, names, f"{place}.channels", report)
    return Route(
        severities=_severities(body.get("severity"), f"{place}.severity", report),
        channels=tuple(dict.fromkeys(channels)),
        labels={
            name: frozenset(_words(value, f"{place}.labels.{name}", report))
            for name, value in _mapping(body.get("labels", {}), f"{place}.labels", report).items()
        },
    )


def _severities(node: object, place: str, report: Report) -> frozenset[Severity]:
    found = set()
    for word in _words(node, place, report):
        if word in Severity.__members__:
            found.add(Severity[word])
        else:
            report(f"{place}: {word!r} is no severity; there are {', '.join(reversed(Severity.__members__))}")
    return frozenset(found)


def _words(node: object, place: str, report: Report) -> tuple[str, ...]:
    words = node if isinstance(node, list) else [node]
    if not words or not all(isinstance(word, str) and word for word in words):
        report(f"{place} must be a word or a list of words")
        return ()
    return tuple(words)


def _check_names(channels: tuple[str, ...], names: frozenset[str], place: str, report: Report) -> None:
    for channel in channels:
        if channel not in names:
            report(f"{place}: {channel!r} is no other channel of this file")


def _mapping(node: object, place: str, report: Report) -> Mapping[str, object]:
    if isinstance(node, Mapping) and all(isinstance(key, str) for key in node):
        return cast("Mapping[str, object]", node)
    report(f"{place} must be a mapping")
    return {}
