"""Snapshots on the wire: what was written whole is read, and anything else is refused whole."""

from hashlib import sha256
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_snapshots_wire import (
    decode_snapshot,
    encode_snapshot,
    joined_parts,
    part_values,
)
from services.evaluator.core.window.stage import WindowStage
from tests.unit.evaluator.snapshots import plain, stage_with_everything
from tests.unit.evaluator.stage_driver import FRESH
from tocsin.evaluation.v1.partial_pb2 import WindowSnapshot, WindowSnapshotPart

SNAPSHOT = stage_with_everything().snapshot(0)
CONTENT = encode_snapshot(SNAPSHOT)
NAME, PARTS = part_values(CONTENT, max_bytes=700)
OTHER = part_values(CONTENT + b"x", max_bytes=700)[1]


def test_a_snapshot_is_decoded_as_it_was_encoded() -> None:
    assert plain(decode_snapshot(CONTENT)) == plain(SNAPSHOT)


def test_so_is_that_of_a_stage_that_has_read_nothing() -> None:
    empty = WindowStage.restored(FRESH, (), 0).snapshot(0)
    assert plain(decode_snapshot(encode_snapshot(empty))) == plain(empty)


def test_parts_are_put_together_whatever_is_among_them_and_however_often_they_come() -> None:
    assert len(PARTS) > 3
    mixed = [b"\xff", OTHER[0], *reversed(PARTS), *OTHER, PARTS[1], b""]
    assert joined_parts(mixed, NAME) == CONTENT
    assert joined_parts(part_values(CONTENT)[1], NAME) == CONTENT


def test_a_part_of_an_unknown_version_is_ignored() -> None:
    part = WindowSnapshotPart.FromString(PARTS[0])
    part.schema_version = 2
    with pytest.raises(MalformedError):
        joined_parts([part.SerializeToString(), *PARTS[1:]], NAME)


@settings(deadline=None, max_examples=80)
@given(st.randoms(use_true_random=False))
def test_truncated_mutated_and_mixed_records_are_refused_whole(random: Random) -> None:
    values = list(PARTS)
    place = random.randrange(len(values))
    damage = random.choice(("lost", "truncated", "mutated", "mixed", "swapped"))
    if damage == "lost":
        del values[place]
    elif damage == "truncated":
        values[place] = values[place][: random.randrange(len(values[place]))]
    elif damage == "mutated":
        value = bytearray(values[place])
        value[random.randrange(len(value))] ^= 1 << random.randrange(8)
        values[place] = bytes(value)
    elif damage == "mixed":
        values[place] = random.choice(OTHER)
    else:
        one, other = WindowSnapshotPart.FromString(values[0]), WindowSnapshotPart.FromString(values[-1])
        one.part, other.part = other.part, one.part
        values[0], values[-1] = one.SerializeToString(), other.SerializeToString()
    try:
        content = joined_parts(values, NAME)
    except MalformedError:
        return
    # What was changed did not matter: how many parts there are is said for people only.
    assert content == CONTENT


@settings(deadline=None, max_examples=150)
@given(st.randoms(use_true_random=False))
def test_whatever_the_bytes_are_they_are_decoded_or_refused(random: Random) -> None:
    """The digest says that they are what some writer wrote, not that it wrote something sensible."""
    damaged = bytearray(CONTENT)
    for _ in range(random.randint(1, 4)):
        damaged[random.randrange(len(damaged))] = random.randrange(256)
    content = bytes(damaged[: random.choice((len(damaged), random.randrange(len(damaged))))])
    assert sha256(content).hexdigest() == part_values(content)[0]
    try:
        snapshot = decode_snapshot(content)
    except MalformedError:
        return
    stage = WindowStage.restored(FRESH, (), 0, snapshot=snapshot)
    stage.checkpoint(0)


def nulled(field: str, column: str) -> WindowSnapshot:
    """Return the message with a table in which a value is missing."""
    message = WindowSnapshot.FromString(CONTENT)
    table = pa.ipc.open_stream(getattr(message, field)).read_all()
    place = table.schema.names.index(column)
    values = table.column(column).to_pylist()
    holes = [*values[:-1], None] if not isinstance(values[-1], list) else [*values[:-1], [None]]
    changed = table.set_column(place, table.schema.field(place), pa.array(holes, type=table.schema.field(place).type))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(changed)
    setattr(message, field, sink.getvalue().to_pybytes())
    return message


@pytest.mark.parametrize(("field", "column"), [("panes", "code"), ("windows", "rule_id"), ("groups", "group")])
def test_a_missing_value_is_refused(field: str, column: str) -> None:
    with pytest.raises(MalformedError, match="a value is missing"):
        decode_snapshot(nulled(field, column).SerializeToString())


def test_another_table_in_the_place_of_one_is_refused() -> None:
    message = WindowSnapshot.FromString(CONTENT)
    message.panes = message.blocks
    with pytest.raises(MalformedError, match="panes: expected the columns"):
        decode_snapshot(message.SerializeToString())


def test_fewer_samples_than_rows_say_are_refused() -> None:
    message = WindowSnapshot.FromString(CONTENT)
    message.block_samples = WindowSnapshot.FromString(
        encode_snapshot(WindowStage.restored(FRESH, (), 0).snapshot(0))
    ).block_samples
    with pytest.raises(MalformedError, match="block_samples: not as many"):
        decode_snapshot(message.SerializeToString())
