"""RoutingService: read the versions of the routing tree, and explain it; RoutingCommands sets it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.contract.paging import encode_page_token, filters_of, shown_rows
from services.contract.timestamps import duration_of
from services.domain.matchers import MAX_LABEL_NAME, MAX_MATCHER_VALUE, SERVICE, SEVERITY, all_match, quote
from services.domain.severity import Severity
from services.manager.core.routing_checks import SEVERITY_NAMES
from services.manager.core.routing_explanation import (
    PlannedStep,
    dependency_inhibition,
    inhibition_reason,
    planned_steps,
    route_reason,
    severity_of,
)
from services.manager.core.routing_tree import AlertRoute, RouteVisit, RoutingTree
from services.manager.core.silence_index import MatchedAlert
from services.manager.messages.routing import routing_tree_message
from services.manager.ports.feeds import CatalogFeed, OnCallFeed, RoutingFeed, SilenceFeed
from services.manager.ports.readers import MatchedAlertReader, RoutingReader, SilenceReader
from services.manager.rpc.pages import page_of
from services.manager.rpc.requests import check_fields, refuse_if_any
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands, routing_message, routing_not_found
from services.manager.rpc.silence_commands import silence_message
from tocsin.routing.v1 import routing_service_pb2 as pb
from tocsin.routing.v1.routing_service_pb2_grpc import RoutingServiceServicer, add_RoutingServiceServicer_to_server
from tocsin.silences.v1.silence_pb2 import Silence as SilenceMessage

# As the store can hold it.
_VERSION = re.compile(r"[0-9]{1,9}")
_MAX_LABELS = 64
_MAX_SHOWN = 60
_MAX_SILENCES = 100
_MAX_INHIBITING = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingContext:
    """What an explanation reads beside the tree."""

    catalog: CatalogFeed
    silences: SilenceFeed
    silence_reader: SilenceReader
    alerts: MatchedAlertReader
    on_call: OnCallFeed


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class RoutingRpc(RoutingServiceServicer):
    """Serves RoutingService."""

    def __init__(
        self,
        commands: RoutingCommands,
        checker: RoutingChecker,
        reader: RoutingReader,
        feed: RoutingFeed,
        context: RoutingContext,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._checker = checker
        self._reader = reader
        self._feed = feed
        self._context = context
        self._clock = clock

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["RoutingService"].full_name,
            lambda server: add_RoutingServiceServicer_to_server(self, server),
        )

    async def SetRouting(self, request: pb.SetRoutingRequest, _context: Any) -> pb.SetRoutingResponse:
        return await self._commands.set(request)

    async def RollbackRouting(self, request: pb.RollbackRoutingRequest, _context: Any) -> pb.RollbackRoutingResponse:
        return await self._commands.rollback(request)

    async def GetRouting(self, request: pb.GetRoutingRequest, _context: Any) -> pb.GetRoutingResponse:
        stored = await (self._reader.get(request.version) if request.version else self._reader.newest())
        if stored is None:
            raise routing_not_found(request.version)
        return pb.GetRoutingResponse(routing=routing_message(stored))

    async def ListRoutingVersions(
        self, request: pb.ListRoutingVersionsRequest, _context: Any
    ) -> pb.ListRoutingVersionsResponse:
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)
        if page.after and not _VERSION.fullmatch(page.after[0]):
            refuse_if_any(Violation("pageToken", "is not a token of this list"))
        found = await self._reader.list_page(page)
        shown, last = shown_rows(found, page.size, lambda tree: (str(tree.version),))
        return pb.ListRoutingVersionsResponse(
            versions=map(routing_message, shown), next_page_token=encode_page_token(last, filters=filters)
        )

    async def ExplainRouting(self, request: pb.ExplainRoutingRequest, _context: Any) -> pb.ExplainRoutingResponse:
        check_fields(request, "labels")
        _check_labels(request.labels)
        labels = self._all_labels(request.labels)
        stored = None if request.HasField("tree") else self._feed.current
        tree = stored.tree if stored else None
        if request.HasField("tree"):
            tree, _ = await self._checker.read(request.tree)
        response = pb.ExplainRoutingResponse(
            version=stored.version if stored else 0, labels=labels, silences=await self._silences(labels)
        )
        if tree is None:
            response.is_decided_by_file = True
            return response
        routes = tree.routes_of(labels)
        response.steps.extend(_step_message(visit, labels) for visit in tree.visits_of(labels))
        response.routes.extend(self._explained(route, labels) for route in routes)
        alerts = await self._context.alerts.list_open()
        response.inhibitions.extend(_inhibitions(tree, labels, alerts))
        graph, now = self._context.catalog.current.confirmed_graph, self._clock.now()
        inhibited = dependency_inhibition(labels, routes, alerts, graph, now=now)
        if inhibited is not None:
            response.dependency_alert_id, response.dependency_path = inhibited.by, inhibited.comment
        return response

    def _all_labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the labels that such an alert would have."""
        entry = self._context.catalog.current.entry_of(given.get(SERVICE, ""))
        labels = {**(entry.labels if entry else {}), **given}
        return {name: value for name, value in labels.items() if value}

    def _explained(self, route: AlertRoute, labels: Mapping[str, str]) -> pb.ExplainedRoute:
        directory, now = self._context.on_call.current, self._clock.now()
        steps = planned_steps(directory, route.policy, severity=severity_of(labels), now=now)
        return _route_message(route, map(_planned_message, steps))

    async def _silences(self, labels: Mapping[str, str]) -> list[SilenceMessage]:
        now = self._clock.now()
        ids = self._context.silences.index(now).silencing("", labels)
        found = [await self._context.silence_reader.get(silence_id) for silence_id in ids[:_MAX_SILENCES]]
        return [silence_message(silence, now) for silence in found if silence is not None]


def _inhibitions(
    tree: RoutingTree, labels: Mapping[str, str], alerts: Sequence[MatchedAlert]
) -> Iterator[pb.ExplainedInhibition]:
    messages = routing_tree_message(tree).inhibition_rules
    for index, rule in enumerate(tree.inhibition_rules):
        if all_match(rule.target, labels):
            ids = [alert.id for alert in alerts if rule.inhibits(alert.labels, labels)]
            reason = inhibition_reason(rule, labels, ids)
            yield pb.ExplainedInhibition(
                index=index, rule=messages[index], alert_ids=ids[:_MAX_INHIBITING], reason=reason
            )


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        refuse_if_any(Violation("labels", f"has {len(labels)} labels, at most {_MAX_LABELS} are allowed"))
    for name, value in labels.items():
        if not name:
            refuse_if_any(Violation("labels", "has a name that is empty"))
        if len(name) > MAX_LABEL_NAME or len(value) > MAX_MATCHER_VALUE:
            expected = f"names have up to {MAX_LABEL_NAME} characters, values up to {MAX_MATCHER_VALUE}"
            refuse_if_any(Violation("labels", f"has one that is too long: {expected}"))
    severity = labels.get(SEVERITY, "")
    if severity and severity not in Severity.__members__:
        refuse_if_any(Violation("labels[severity]", f"found {quote(severity[:_MAX_SHOWN])}, expected {SEVERITY_NAMES}"))


def _step_message(visit: RouteVisit, labels: Mapping[str, str]) -> pb.RoutingStep:
    return pb.RoutingStep(
        path=visit.route.path,
        matchers=map(str, visit.node.matchers),
        outcome=pb.RoutingStep.Outcome.Value(visit.outcome.value),
        reason=route_reason(visit, labels),
    )


def _planned_message(step: PlannedStep) -> pb.ExplainedStep:
    return pb.ExplainedStep(
        delay=duration_of(step.delay),
        outcome=pb.ExplainedStep.Outcome.Value(step.targets.outcome.value),
        receivers=step.targets.receivers,
        people=step.targets.people,
        reason=step.targets.reason,
    )


def _route_message(route: AlertRoute, escalation: Iterable[pb.ExplainedStep]) -> pb.ExplainedRoute:
    return pb.ExplainedRoute(
        path=route.path,
        receivers=route.receivers,
        policy=route.policy,
        correlation_labels=route.correlation_labels,
        correlation_window=duration_of(route.correlation_window),
        bundling_interval=duration_of(route.bundling_interval),
        inhibits_dependents=route.inhibits_dependents,
        escalation=escalation,
    )
