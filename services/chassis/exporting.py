"""Sending spans by OTLP; imported only where that is asked for, because it is slow to load."""

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporting_to(otlp: str) -> SpanProcessor:
    """Return a processor that sends spans in batches to host:port."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp, insecure=True, timeout=2), schedule_delay_millis=500)
