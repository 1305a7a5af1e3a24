"""Traces and metrics: OpenTelemetry inside, OTLP and Prometheus outside."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client import Histogram as DirectHistogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# Upper bounds of the buckets of every histogram whose unit is "s".
_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_PROPAGATOR = TraceContextTextMapPropagator()
_PROPAGATED: Final = frozenset(_PROPAGATOR.fields)
_IDS: Final = RandomIdGenerator()


class _UnrecordedTraces(trace.TracerProvider):
    """Spans that are ids alone, for where nobody receives any: they cost a fraction of those that could be recorded."""

    def get_tracer(self, *_arguments: Any, **_named: Any) -> trace.Tracer:
        return _UnrecordedSpans()


class _UnrecordedSpans(trace.Tracer):
    def start_span(
        self,
        name: str,  # noqa: ARG002  (the signature is OpenTelemetry's)
        context: Context | None = None,
        *_arguments: Any,
        **_named: Any,
    ) -> trace.Span:
        parent = trace.get_current_span(context).get_span_context()
        return trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id=parent.trace_id if parent.is_valid else _IDS.generate_trace_id(),
                span_id=_IDS.generate_span_id(),
                is_remote=False,
                trace_flags=parent.trace_flags,
                trace_state=parent.trace_state,
            )
        )

    def start_as_current_span(self, *arguments: Any, **named: Any) -> Any:
        return trace.use_span(self.start_span(*arguments, **named))


@dataclass(slots=True)
class _Providers:
    traces: trace.TracerProvider = field(default_factory=trace.NoOpTracerProvider)
    meters: metrics.MeterProvider = field(default_factory=metrics.NoOpMeterProvider)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    tracers: dict[str, trace.Tracer] = field(default_factory=dict)
    histograms: dict[str, DirectHistogram] = field(default_factory=dict)


_current = _Providers()


@contextmanager
def telemetry(service: str, instance: str, otlp: str, *, processors: Iterable[SpanProcessor] = ()) -> Iterator[None]:
    """Set up traces and metrics for this process until the end of the block, then send the remaining spans.

    Without `otlp` no trace is recorded, but ids are still made and a caller's trace is continued.
    """
    global _current  # noqa: PLW0603  (one set of providers a process; the end of the block restores the former)
    before, (_current, close) = _current, _open(service, instance, otlp, processors)
    try:
        yield
    finally:
        _current = before
        close()


def tracer(name: str) -> trace.Tracer:
    """Return the tracer of a module; cheap, so call it where the span starts."""
    if name not in _current.tracers:
        _current.tracers[name] = _current.traces.get_tracer(name)
    return _current.tracers[name]


def meter(name: str) -> metrics.Meter:
    """Return the meter of a module; create instruments inside of the telemetry block."""
    return _current.meters.get_meter(name)


def call_histogram(name: str, description: str, labels: Sequence[str]) -> DirectHistogram:
    """Return a histogram of seconds for what is counted at each call, by its name in Prometheus.

    It is prometheus_client's own: OpenTelemetry's SDK takes 8 µs to count one value, a tenth of a single event's call.
    """
    if name not in _current.histograms:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        _current.histograms[name] = DirectHistogram(
            name, description, labels, buckets=_SECONDS_BUCKETS, registry=_current.registry
        )
    return _current.histograms[name]


def exposition() -> tuple[bytes, str]:
    """Return all metrics in Prometheus' text format, and its content type."""
    return generate_latest(_current.registry), CONTENT_TYPE_LATEST


def trace_headers(context: Context | None = None) -> list[tuple[str, bytes]]:
    """Return the given or current trace context as Kafka headers; no headers outside of a trace."""
    return [(key, value.encode()) for key, value in carrier(context).items()]


def carrier(context: Context | None = None) -> dict[str, str]:
    """Return the given or current trace context as HTTP headers or gRPC metadata."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, context)
    return headers


def context_of(headers: Iterable[tuple[str, bytes | str]] | None) -> Context:
    """Return the trace context that headers carry; an empty one where they carry none."""
    fields = {
        name: value.decode("ascii", "replace") if isinstance(value, bytes) else value
        for key, value in headers or ()
        if (name := key.lower()) in _PROPAGATED
    }
    return _PROPAGATOR.extract(fields, Context()) if fields else Context()


@contextmanager
def in_trace_of(headers: Iterable[tuple[str, bytes | str]] | None) -> Iterator[None]:
    """Join the trace that headers carry, without starting a span: log lines inside of the block carry its trace id."""
    token = attach(context_of(headers))
    try:
        yield
    finally:
        detach(token)


def links_of(sources: Iterable[Iterable[tuple[str, bytes | str]] | None], *, limit: int = 32) -> list[trace.Link]:
    """Return links to the spans that records come from: each span once, up to `limit` of them."""
    spans: dict[tuple[int, int], trace.SpanContext] = {}
    for headers in sources:
        context = trace.get_current_span(context_of(headers)).get_span_context()
        if context.is_valid:
            spans.setdefault((context.trace_id, context.span_id), context)
        if len(spans) >= limit:
            break
    return [trace.Link(span) for span in spans.values()]


def _open(
    service: str, instance: str, otlp: str, processors: Iterable[SpanProcessor]
) -> tuple[_Providers, Callable[[], None]]:
    resource = Resource({"service.name": service, "service.namespace": "tocsin", "service.instance.id": instance})
    processors = [*processors, *_exporters(otlp)]
    traces = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    for processor in processors:
        traces.add_span_processor(processor)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    by_seconds = View(
        instrument_type=Histogram, instrument_unit="s", aggregation=ExplicitBucketHistogramAggregation(_SECONDS_BUCKETS)
    )
    # The text format has no place for exemplars, and looking for one takes as long as counting.
    meters = MeterProvider(
        [reader],
        resource=resource,
        views=[by_seconds],
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOffExemplarFilter(),
    )

    def close() -> None:
        traces.shutdown()
        meters.shutdown()

    return _Providers(traces if processors else _UnrecordedTraces(), meters, registry), close


def _exporters(otlp: str) -> list[SpanProcessor]:
    if not otlp:
        return []
    # Slow to load, so it is imported only where it is needed.
    exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    spans = exporter.OTLPSpanExporter(endpoint=otlp, insecure=True, timeout=2)
    return [BatchSpanProcessor(spans, schedule_delay_millis=500)]
