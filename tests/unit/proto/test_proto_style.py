"""The proto files keep the style rules that buf cannot check."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

GEN = Path(__file__).parents[3] / "gen"
FILES = descriptor_pb2.FileDescriptorSet.FromString((GEN / "descriptor.binpb").read_bytes())
OURS = [file for file in FILES.file if file.package.startswith("tocsin.")]

# For evaluators; people list rules. And events as protobuf; as JSON they have rpcs of their own.
WITHOUT_REST = {
    "GetKeySnapshot",
    "ReportKeyUses",
    "WatchAlertRules",
    "ReportRuleStatistics",
    "ReportTraces",
    "Ingest",
    "IngestBatch",
    "IngestColumns",
}


def methods() -> Iterator[descriptor_pb2.MethodDescriptorProto]:
    for file in OURS:
        for service in file.service:
            yield from service.method


def request_fields() -> Iterator[tuple[str, descriptor_pb2.FieldDescriptorProto]]:
    for file in OURS:
        for message in file.message_type:
            if message.name.endswith("Request"):
                yield from ((message.name, field) for field in message.field)


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.name)
def test_every_public_rpc_has_a_rest_path(method: descriptor_pb2.MethodDescriptorProto) -> None:
    assert method.options.HasExtension(annotations_pb2.http) != (method.name in WITHOUT_REST)


@pytest.mark.parametrize(("message", "field"), list(request_fields()), ids=lambda part: getattr(part, "name", part))
def test_every_request_field_says_whether_it_is_required(
    message: str, field: descriptor_pb2.FieldDescriptorProto
) -> None:
    behaviour = field.options.Extensions[field_behavior_pb2.field_behavior]
    assert set(behaviour) & {field_behavior_pb2.REQUIRED, field_behavior_pb2.OPTIONAL}, message


def test_get_is_used_for_reads_only() -> None:
    for method in methods():
        if method.options.Extensions[annotations_pb2.http].get:
            assert method.options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def test_a_request_of_ingest_is_a_record_of_kafka_on_the_wire() -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in FILES.file:
        pool.Add(file)
    batch, request, single = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tocsin.logs.v1.{name}"))
        for name in ("LogBatch", "IngestBatchRequest", "IngestRequest")
    )
    event = {"service": "s", "level": "ERROR", "message": "m", "attributes": {"a": "b"}}
    assert batch.FromString(request(events=[event, event]).SerializeToString()) == batch(events=[event, event])
    assert batch.FromString(2 * single(event=event).SerializeToString()) == batch(events=[event, event])
