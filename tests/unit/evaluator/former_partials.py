"""Partial batches as the former version wrote them: row by row."""

from services.contract.timestamps import timestamp_of_nanoseconds
from services.evaluator.adapters.messages import sample_message
from services.evaluator.adapters.window_partials_wire import encode_batch
from services.evaluator.core.partial_rows import PartialBatch
from services.evaluator.core.records import Row
from tests.unit.evaluator.rows import to_rows
from tocsin.evaluation.v1 import partial_pb2


def encode_former(batch: PartialBatch) -> bytes:
    message = partial_pb2.PartialBatch.FromString(encode_batch(batch))
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
