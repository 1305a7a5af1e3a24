"""Partial batches as former versions wrote them."""

from services.contract.timestamps import timestamp_of_nanoseconds
from services.evaluator.adapters.messages import sample_message
from services.evaluator.adapters.window_partials_wire import encode_batch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import Row
from tests.unit.evaluator.rows import to_rows
from tocsin.evaluation.v1 import partial_pb2


def encode_of_one_block(batch: PartialBatch) -> bytes:
    """Encode a batch of one block in the form in which the record itself stood for the block."""
    message = partial_pb2.PartialBatch.FromString(encode_batch(batch))
    (block,) = message.blocks
    block.ClearField("rows")
    for field, value in block.ListFields():
        if field.name == "missed":
            message.missed.extend(value)
        elif isinstance(value, int):
            setattr(message, field.name, value)
        else:
            getattr(message, field.name).CopyFrom(value)
    message.ClearField("blocks")
    if message.HasField("columns"):
        message.columns.schema_version = 1
    return message.SerializeToString()


def encode_former(batch: PartialBatch) -> bytes:
    """Encode a batch of one block in the form before that: row by row."""
    message = partial_pb2.PartialBatch.FromString(encode_of_one_block(batch))
    message.ClearField("columns")
    message.rows.extend(map(_row_message, to_rows(batch.rows)))
    return message.SerializeToString()


def _row_message(row: Row) -> partial_pb2.PartialRow:
    key, aggregate = row
    return partial_pb2.PartialRow(
        rule_id=key.rule_id,
        selection_revision=key.selection_revision,
        group=key.group,
        pane_time=timestamp_of_nanoseconds(key.pane_ns),
        count=aggregate.counted,
        total=aggregate.total,
        value_count=aggregate.value_count,
        sum=aggregate.sum,
        min=aggregate.min,
        max=aggregate.max,
        samples=[sample_message(sample) for sample in aggregate.samples],
        last_event_time=None if aggregate.last_event_ns is None else timestamp_of_nanoseconds(aggregate.last_event_ns),
        traceparent=aggregate.traceparent,
    )
