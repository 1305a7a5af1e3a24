"""A watch goes on over connections that break, and shows each change once."""

from datetime import timedelta

import grpc
import pytest

from cli.watching import AlertWatch, IncidentWatch
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure, InvalidRequest, StoreUnavailable
from services.manager.core.incident_changes import open_incident
from tests.fakes.edge import Edge
from tests.fakes.transitions import NOW
from tests.unit.manager.test_incident_queries import alert as alert_in_incident
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.alerts.v1.alert_service_pb2 import WatchAlertsRequest
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.incidents.v1.incident_pb2 import Incident as IncidentMessage
from tocsin.incidents.v1.incident_service_pb2 import WatchIncidentsRequest
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceStub


class Watch(AlertWatch):
    """Waits for nothing; changes the world instead."""

    def pause(self, delay: float) -> None:
        delays.append(delay)
        edges[-1].alerts = after_break.pop(0)


delays: list[float] = []
edges: list[Edge] = []
after_break: list[list[Alert]] = []


def alert(name: str, version: str, state: "Alert.State.ValueType" = Alert.FIRING) -> Alert:
    return Alert(id=name, etag=version, state=state)


def watched(edge: Edge, failures: list[Failure], worlds: list[list[Alert]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return ids and versions in their order, and what was said; the edge has the next world after each break."""
    edge.alerts, edge.stream_failures = worlds[0], failures
    delays.clear()
    edges[:], after_break[:] = [edge], worlds[1:]
    said: list[str] = []
    backoff = Backoff(first_delay=timedelta(seconds=1), max_delay=timedelta(seconds=4), random=lambda: 1.0)
    with grpc.insecure_channel(edge.address) as channel:
        watch = Watch(stub=AlertServiceStub(channel), request=WatchAlertsRequest(), notice=said.append, backoff=backoff)
        return [(each.id, each.etag) for each in watch.changes()], said


def test_after_a_break_only_changes_are_shown(edge: Edge) -> None:
    before = [alert("a", "1"), alert("b", "1")]
    after = [alert("a", "1"), alert("b", "2"), alert("c", "1")]
    shown, said = watched(edge, [StoreUnavailable("away")], [before, after])
    assert shown == [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1")]
    # The server asks for that pause.
    assert said == ["UNAVAILABLE: away; connecting again in 2.0 s", "connected again"]


def test_what_was_resolved_during_a_break_is_shown(edge: Edge) -> None:
    before = [alert("a", "1"), alert("b", "1")]
    # The fake sends all alerts at the beginning of a stream; the real server sends open ones only.
    after = [alert("a", "2", Alert.RESOLVED)]
    shown, _ = watched(edge, [StoreUnavailable("away")], [before, after])
    assert shown[:3] == [("a", "1"), ("b", "1"), ("a", "2")]


def test_pauses_grow_while_the_server_is_away(edge: Edge) -> None:
    failures: list[Failure] = [StoreUnavailable("away"), StoreUnavailable("away"), StoreUnavailable("away")]
    _, said = watched(edge, failures, [[alert("a", "1")], [], [], [alert("a", "1")]])
    assert delays == [2.0, 2.0, 4.0]
    assert said.count("connected again") == 1


def test_a_refused_request_is_not_repeated(edge: Edge) -> None:
    with pytest.raises(grpc.RpcError):
        watched(edge, [StoreUnavailable("away"), InvalidRequest("no", violations=[])], [[alert("a", "1")], []])
    assert len(delays) == 1


def test_a_connection_that_breaks_is_said_in_words_and_not_in_those_of_the_library() -> None:
    said: list[str] = []
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        watch = Watch(stub=AlertServiceStub(channel), request=WatchAlertsRequest(), notice=said.append)
        with pytest.raises(grpc.RpcError) as refused:
            list(watch.changes())
        watch._report(refused.value)
    assert said[0].startswith("UNAVAILABLE: nothing listens there; connecting again in")


def test_a_watch_of_incidents_reads_what_ended_meanwhile(edge: Edge) -> None:
    with grpc.insecure_channel(edge.address) as channel:
        watch = IncidentWatch(stub=IncidentServiceStub(channel), request=WatchIncidentsRequest(), notice=lambda _: None)
        opened = open_incident(alert_in_incident("a", {}), now=NOW)
        edge.store.tables.incidents.incidents[opened.incident.id] = opened.incident, 1
        read = watch._read(opened.incident.id)
        assert (read.id, watch._is_resolved(read)) == (opened.incident.id, False)
        assert watch._is_resolved(IncidentMessage(state=IncidentMessage.RESOLVED))
