"""What callers get when a service fails, and that nothing is done twice."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from services.chassis.interceptors import NOT_BEGUN
from tests.contract.envoy.client import EnvoyClient, status_of, wait_until
from tests.contract.envoy.edge import Edge, is_healthy
from tests.contract.envoy.upstream import Behaviour, admin
from tocsin.logs.v1 import log_event_pb2, log_ingest_service_pb2, log_ingest_service_pb2_grpc
from tocsin.notifications.v1 import notification_service_pb2, notification_service_pb2_grpc
from tocsin.rules.v1 import alert_rule_service_pb2, alert_rule_service_pb2_grpc

pytestmark = pytest.mark.integration

EVENT = log_event_pb2.LogEvent(service="a", level=log_event_pb2.LogEvent.ERROR, message="m")


@pytest.fixture
def notifier_down(edge: Edge) -> Iterator[Edge]:
    edge.notifier.stop()
    yield edge
    edge.notifier.start()
    wait_until(lambda: is_healthy(edge.ports, "notifier"))


def test_health_is_the_services_own_response(edge: Edge) -> None:
    answer = edge.all.get("/health")
    assert (answer.status, answer.json["service"], answer.json["dependencies"]) == (200, "ingest", {"kafka": "UP"})
    answer = EnvoyClient(edge.ports.edge_manager).get("/health")
    assert (answer.status, answer.json["dependencies"]) == (503, {"db": "DOWN"})


def test_a_service_that_is_down_is_not_healthy(edge: Edge) -> None:
    for port, service in ((edge.ports.edge_evaluator, "evaluator"), (edge.ports.edge_notifier, "notifier")):
        answer = EnvoyClient(port).get("/health")
        assert (answer.status, answer.json) == (503, {"service": service, "status": "NOT_SERVING"})


def test_a_service_is_healthy_as_long_as_one_instance_is(edge: Edge) -> None:
    client, (one, other) = EnvoyClient(edge.ports.edge_evaluator), edge.evaluator_admins
    with admin(other, "evaluator", {"kafka": "DOWN"}):
        with admin(one, "evaluator", {"kafka": "UP"}):
            wait_until(lambda: client.get("/health").status == 200)
            assert [client.get("/health").json["status"] for _ in range(20)] == ["SERVING"] * 20
        # Also in the moment before Envoy has noticed.
        left = client.get("/health")
        assert (left.status, left.json["status"]) == (503, "NOT_SERVING")
    with admin(one, "evaluator", {"kafka": "UP"}):
        wait_until(lambda: client.get("/health").status == 200)
        with admin(other, "evaluator", {"kafka": "UP"}):
            assert [client.get("/health").status for _ in range(20)] == [200] * 20
        assert [client.get("/health").status for _ in range(20)] == [200] * 20


def test_a_service_that_is_down_is_unavailable_with_a_retry_delay(notifier_down: Edge) -> None:
    answer = notifier_down.all.get("/api/circuit-breakers")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, 14, "1")
    assert answer.json["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]


def test_grpc_callers_get_the_same_retry_delay(notifier_down: Edge) -> None:
    with notifier_down.all.channel() as channel, pytest.raises(grpc.RpcError) as failed:
        notification_service_pb2_grpc.NotificationServiceStub(channel).ListCircuitBreakers(
            notification_service_pb2.ListCircuitBreakersRequest(), timeout=5
        )
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    hint = error_details_pb2.RetryInfo()
    status = status_of(failed.value)
    assert status.details[0].Unpack(hint)
    assert hint.retry_delay.seconds == 1


def test_a_service_that_came_back_is_used_within_two_seconds(edge: Edge) -> None:
    edge.notifier.stop()
    assert edge.all.get("/api/circuit-breakers").status == 503
    edge.notifier.start()
    assert wait_until(lambda: edge.all.get("/api/circuit-breakers").status == 200) < 2
    assert wait_until(lambda: is_healthy(edge.ports, "notifier")) < 2


def test_a_service_that_cannot_work_still_says_why(edge: Edge) -> None:
    edge.ingest.set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
    wait_until(lambda: not is_healthy(edge.ports, "ingest"))
    edge.ingest.on("IngestJson", lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "Kafka does not answer"))
    answer = edge.all.post("/api/logs", {"service": "a"})
    assert (answer.status, answer.json["message"]) == (503, "Kafka does not answer")
    assert len(edge.ingest.calls) == 1
    edge.ingest.set_health(health_pb2.HealthCheckResponse.SERVING)
    wait_until(lambda: is_healthy(edge.ports, "ingest"))


def test_a_command_is_not_retried_when_the_response_was_lost(edge: Edge) -> None:
    edge.manager.on("CreateAlertRule", cut_first(edge))
    answer = edge.all.post("/api/alert-rules", {"name": "r"})
    assert (answer.status, answer.json["code"]) == (502, 2)
    assert "may have been carried out" in answer.json["message"]
    assert [call.rpc for call in edge.manager.calls] == ["CreateAlertRule"]


def test_grpc_callers_learn_that_the_outcome_is_unknown(edge: Edge) -> None:
    edge.manager.on("DeleteAlertRule", cut_first(edge))
    with edge.all.channel() as channel, pytest.raises(grpc.RpcError) as failed:
        alert_rule_service_pb2_grpc.AlertRuleServiceStub(channel).DeleteAlertRule(
            alert_rule_service_pb2.DeleteAlertRuleRequest(id="r"), timeout=5
        )
    assert failed.value.code() == grpc.StatusCode.UNKNOWN
    assert "may have been carried out" in str(failed.value.details())
    assert len(edge.manager.calls) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_command_that_a_stopping_service_has_not_begun_is_retried(edge: Edge, code: grpc.StatusCode) -> None:
    def refuse_first(_: Message, context: grpc.ServicerContext) -> Message:
        if len(edge.ingest.calls) == 1:
            # What is cancelled by a server that stops carries nothing.
            context.set_trailing_metadata((NOT_BEGUN,) if code is grpc.StatusCode.UNAVAILABLE else ())
            context.abort(code, "this instance is stopping")
        return log_ingest_service_pb2.IngestJsonResponse(accepted_count=1)

    edge.ingest.on("IngestJson", refuse_first)
    answer = edge.all.post("/api/logs", {"service": "a"})
    assert (answer.status, answer.json) == (200, {"acceptedCount": 1})
    assert len(edge.ingest.calls) == 2


def test_what_the_last_instance_cancels_as_it_stops_is_unavailable_with_a_retry_delay(edge: Edge) -> None:
    def cancel(_: Message, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "")

    edge.ingest.on("IngestJson", cancel)
    answer = edge.all.post("/api/logs", {"service": "a"})
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, 14, "1")
    assert answer.json["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]
    assert "nothing of the request was kept" in answer.json["message"]
    edge.ingest.on("Ingest", cancel)
    with edge.all.channel() as channel, pytest.raises(grpc.RpcError) as failed:
        log_ingest_service_pb2_grpc.LogIngestServiceStub(channel).Ingest(
            log_ingest_service_pb2.IngestRequest(event=EVENT), timeout=5
        )
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert status_of(failed.value).message == answer.json["message"]
    hint = error_details_pb2.RetryInfo()
    assert status_of(failed.value).details[0].Unpack(hint)
    assert hint.retry_delay.seconds == 1


def test_a_query_is_retried_when_the_response_was_lost(edge: Edge) -> None:
    edge.manager.on("GetAlertRule", cut_first(edge))
    assert edge.all.get("/api/alert-rules/r1").status == 200
    assert len(edge.manager.calls) == 2


def test_a_service_that_does_not_answer_in_time_exceeds_the_deadline(edge: Edge) -> None:
    given_up = threading.Event()
    edge.manager.on("CreateAlertRule", lambda *_: given_up.wait(10))
    answer = edge.all.post("/api/alert-rules", {"name": "r"})
    assert (answer.status, answer.json["code"]) == (504, 4)
    with edge.all.channel() as channel, pytest.raises(grpc.RpcError) as failed:
        alert_rule_service_pb2_grpc.AlertRuleServiceStub(channel).CreateAlertRule(
            alert_rule_service_pb2.CreateAlertRuleRequest(), timeout=10
        )
    given_up.set()
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert failed.value.details() == answer.json["message"]
    assert len(edge.manager.calls) == 2


def test_callers_cannot_make_envoy_retry_events(edge: Edge) -> None:
    edge.ingest.on("IngestJson", lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no"))
    wish = {"x-envoy-retry-on": "5xx,gateway-error", "x-envoy-retry-grpc-on": "unavailable", "x-envoy-max-retries": "5"}
    assert edge.all.post("/api/logs", {"service": "a"}, wish).status == 503
    assert len(edge.ingest.calls) == 1


def test_a_command_waits_for_a_service_that_is_just_starting(edge: Edge) -> None:
    edge.notifier.stop()
    wait_until(lambda: not is_healthy(edge.ports, "notifier"))
    back = threading.Thread(target=edge.notifier.start)
    back.start()
    wait_until(lambda: edge.all.post("/api/notifications/n1/retry", "").status == 200)
    back.join()
    assert len(edge.notifier.calls) == 1


def test_events_are_accepted_while_another_service_is_down(notifier_down: Edge) -> None:
    with notifier_down.all.channel() as channel:
        log_ingest_service_pb2_grpc.LogIngestServiceStub(channel).Ingest(
            log_ingest_service_pb2.IngestRequest(event=EVENT), timeout=5
        )
    assert len(notifier_down.ingest.calls) == 1


def cut_first(edge: Edge) -> Behaviour:
    """Cut the connection to the manager when its first call has arrived; answer later ones."""
    calls: list[object] = []

    def behave(request: Message, _: grpc.ServicerContext) -> Message:
        calls.append(request)
        if len(calls) == 1:
            edge.manager_relay.cut()
        name = type(request).__name__.replace("Request", "Response")
        response: Message = getattr(alert_rule_service_pb2, name)()
        return response

    return behave
