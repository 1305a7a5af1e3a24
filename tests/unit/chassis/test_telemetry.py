from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from services.chassis import telemetry

CALLER = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
TRACE = int("0af7651916cd43dd8448eb211c80319c", 16)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with telemetry.telemetry("test", "i", "", processors=[SimpleSpanProcessor(exporter)]):
        yield exporter


def exposed() -> list[str]:
    return telemetry.exposition()[0].decode().splitlines()


@pytest.mark.usefixtures("spans")
def test_metrics_are_exposed_under_the_names_that_users_chart() -> None:
    meter = telemetry.meter("test")
    meter.create_counter("alerts_processed").add(2)
    meter.create_counter("notifications_sent").add(1, {"status": "success"})
    meter.create_counter("tocsin.notifier.notifications.suppressed", unit="{notification}").add(1)
    meter.create_histogram("tocsin.delivery.duration", unit="s").record(0.003)
    lines = exposed()
    assert "alerts_processed_total 2.0" in lines
    assert 'notifications_sent_total{status="success"} 1.0' in lines
    assert "tocsin_notifier_notifications_suppressed_total 1.0" in lines
    assert 'tocsin_delivery_duration_seconds_bucket{le="0.005"} 1.0' in lines
    assert not any("otel_scope" in line or "target_info" in line for line in lines)


@pytest.mark.usefixtures("spans")
def test_durations_of_calls_are_exposed_as_other_histograms_are() -> None:
    telemetry.meter("test").create_histogram("tocsin.a.duration", unit="s", description="What").record(
        0.003, {"m": "x"}
    )
    telemetry.call_histogram("tocsin_b_duration_seconds", "What", ("m",)).labels("x").observe(0.003)
    # Each server of a process asks for it.
    telemetry.call_histogram("tocsin_b_duration_seconds", "What", ("m",)).labels("x").observe(0.003)
    one, other = ([line for line in exposed() if f"tocsin_{name}_duration" in line] for name in "ab")
    assert len(one) == len(other)
    alike = [line.replace("_b_", "_a_").replace("2.0", "1.0").replace("0.006", "0.003") for line in other]
    assert sorted(alike) == sorted(one)


def test_a_trace_continues_through_headers(spans: InMemorySpanExporter) -> None:
    context = telemetry.context_of([("other", b"x"), CALLER])
    with telemetry.tracer("test").start_as_current_span("judge", context):
        name, value = telemetry.trace_headers()[0]
    assert (name, value[3:35]) == ("traceparent", CALLER[1][3:35])
    parent = spans.get_finished_spans()[0].parent
    assert parent is not None
    assert parent.span_id == int("b7ad6b7169203331", 16)


@pytest.mark.usefixtures("spans")
@pytest.mark.parametrize("headers", [None, [], [("traceparent", b"nonsense")], [("traceparent", b"\xff")]])
def test_headers_without_a_trace_begin_a_new_one(headers: list[tuple[str, bytes]] | None) -> None:
    assert not get_current_span(telemetry.context_of(headers)).get_span_context().is_valid
    with telemetry.tracer("test").start_as_current_span("judge", telemetry.context_of(headers)) as span:
        assert span.get_span_context().is_valid


def test_headers_without_a_trace_do_not_join_the_current_trace(spans: InMemorySpanExporter) -> None:
    with telemetry.tracer("test").start_as_current_span("around"):
        telemetry.tracer("test").start_span("inside", telemetry.context_of([])).end()
    assert spans.get_finished_spans()[0].parent is None


def test_a_joined_trace_is_current_until_the_end_of_the_block() -> None:
    with telemetry.in_trace_of([CALLER]):
        assert telemetry.trace_headers() == [CALLER]
    assert telemetry.trace_headers() == []


def test_links_contain_each_span_once_up_to_a_limit() -> None:
    sibling = (CALLER[0], CALLER[1].replace(b"b7ad", b"c7ad"))
    assert len(telemetry.links_of([[CALLER], [sibling], [CALLER]])) == 2
    other = ("traceparent", b"00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert telemetry.links_of([[CALLER], None, [CALLER], [other]])[0].context.trace_id == TRACE
    assert len(telemetry.links_of([[CALLER], None, [CALLER], [other]])) == 2
    assert len(telemetry.links_of([[CALLER], [other]], limit=1)) == 1


def test_outside_of_a_trace_there_are_no_headers() -> None:
    assert telemetry.trace_headers() == []


def test_without_a_receiver_ids_are_made_but_no_span_is_recorded() -> None:
    with telemetry.telemetry("test", "i", ""), telemetry.tracer("test").start_as_current_span("x") as span:
        assert span.get_span_context().is_valid
        assert not span.is_recording()
        assert telemetry.trace_headers()


def test_the_end_of_a_block_restores_the_former_providers() -> None:
    with telemetry.telemetry("outer", "i", ""):
        telemetry.meter("test").create_counter("outer").add(1)
        with telemetry.telemetry("inner", "i", ""):
            telemetry.meter("test").create_counter("inner").add(1)
            assert not any("outer" in line for line in exposed())
        assert any("outer_total" in line for line in exposed())


@pytest.fixture
def without_receiver() -> Iterator[None]:
    with telemetry.telemetry("test", "i", ""):
        yield


@pytest.mark.usefixtures("without_receiver")
@pytest.mark.parametrize("flags", ["00", "01"])
def test_without_a_receiver_a_callers_trace_is_continued(flags: str) -> None:
    caller = (CALLER[0], CALLER[1][:-2] + flags.encode())
    span = telemetry.tracer("test").start_span("judge", telemetry.context_of([caller]))
    context = span.get_span_context()
    assert not span.is_recording()
    assert (context.trace_id, context.trace_flags, context.is_remote) == (TRACE, int(flags), False)
    assert context.span_id != int("b7ad6b7169203331", 16)


@pytest.mark.usefixtures("without_receiver")
def test_without_a_receiver_each_span_has_ids_of_its_own() -> None:
    first, second = (telemetry.tracer("test").start_span("judge", telemetry.context_of([])) for _ in range(2))
    ids = {(each.get_span_context().trace_id, each.get_span_context().span_id) for each in (first, second)}
    assert len(ids) == 2
    assert first.get_span_context().is_valid


@pytest.mark.usefixtures("without_receiver")
def test_without_a_receiver_a_span_is_the_current_one_in_its_block() -> None:
    with telemetry.tracer("test").start_as_current_span("judge", context=telemetry.context_of([CALLER])) as span:
        assert get_current_span() is span
        with telemetry.tracer("test").start_as_current_span("inner", links=[]) as inner:
            assert inner.get_span_context().trace_id == TRACE
    assert not get_current_span().get_span_context().is_valid
