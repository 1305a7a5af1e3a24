"""What Envoy records of a request: its id, its span, its line in the access log, its metrics."""

import socket

import pytest

from tests.contract.envoy.client import EnvoyClient, wait_until
from tests.contract.envoy.edge import Edge

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_every_response_has_a_request_id_and_a_callers_own_is_kept(edge: Edge) -> None:
    assert len(edge.all.get("/api/alerts").headers["x-request-id"]) == 36
    assert edge.all.get("/api/alerts", {"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    assert [call.metadata["x-request-id"] for call in edge.manager.calls][1] == "mine"
    assert "x-request-id" in edge.all.get("/api/nothing").headers


def test_a_trace_continues_through_envoy(edge: Edge) -> None:
    edge.all.get("/api/alerts", {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    version, trace, span, flags = edge.manager.calls[0].metadata["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    wait_until(lambda: any(each.span_id.hex() == span for _, each in edge.spans.spans))
    (found,) = [(service, each) for service, each in edge.spans.spans if each.span_id.hex() == span]
    assert found[0] == "api-gateway"
    assert (found[1].trace_id.hex(), found[1].parent_span_id.hex()) == (TRACE, PARENT)


def test_a_caller_without_a_trace_begins_one(edge: Edge) -> None:
    edge.all.get("/api/alerts")
    assert edge.manager.calls[0].metadata["traceparent"].startswith("00-")


def test_each_request_is_a_line_of_json(edge: Edge) -> None:
    edge.all.get("/api/alerts?states=FIRING", {"x-request-id": "look-for-me", "traceparent": f"00-{TRACE}-{PARENT}-01"})
    wait_until(lambda: any(line["request_id"] == "look-for-me" for line in edge.lines()), seconds=15)
    (line,) = [line for line in edge.lines() if line["request_id"] == "look-for-me"]
    expected = {
        "method": "GET",
        "path": "/api/alerts?states=FIRING",
        "rpc": "/tocsin.alerts.v1.AlertService/ListAlerts",
        "status": 200,
        "grpc_status": "OK",
        "cluster": "manager",
        "trace_id": TRACE,
        "port": edge.ports.edge,
    }
    assert {name: line[name] for name in expected} == expected


@pytest.mark.parametrize(("agent", "written"), [("curl\x9b31m\u202e\u2028", "curl??31m??????"), ("\udcff\udcfe", "??")])
def test_a_clients_name_is_ascii_in_the_log_and_in_spans(edge: Edge, agent: str, written: str) -> None:
    names = {
        "X-Request-Id": "id\u202e",
        "User-Agent": agent,
        "X-Envoy-Original-Path": "/forged",
        "X-Envoy-Original-Method": "FORGED",
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    with socket.create_connection(("127.0.0.1", edge.ports.edge)) as client:
        client.sendall(f"GET /nothing HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode(errors="surrogateescape"))
        assert client.recv(12) == b"HTTP/1.1 404"
    wait_until(lambda: any(line["user_agent"] == written for line in edge.lines()), seconds=15)
    (line,) = [line for line in edge.lines() if line["user_agent"] == written]
    assert (line["method"], line["path"], line["request_id"]) == ("GET", "/nothing", "id???")
    wait_until(lambda: any(written in str(span.attributes) for _, span in edge.spans.spans))


def test_metrics_are_read_at_the_mesh(edge: Edge) -> None:
    answer = EnvoyClient(edge.ports.mesh).get("/stats/prometheus")
    assert "envoy_cluster_upstream_rq_total" in answer.text
    assert EnvoyClient(edge.ports.mesh).get("/quitquitquit").status == 404


def test_envoy_logs_no_warning(edge: Edge) -> None:
    assert not [line for line in edge.log.read_text().splitlines() if "][warning]" not in line and line.startswith("[")]
    assert "eprecated" not in edge.log.read_text()
