"""Checkpoints as metadata of committed offsets, names of stores, moments."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.evaluator.core.records import duration_ns, moment_ns, window_start
from services.evaluator.core.rules import STORES
from services.evaluator.core.window.checkpoint import Checkpoint, SnapshotName, decode_checkpoint, encode_checkpoint
from services.rule_language.rule import RuleType


@pytest.mark.parametrize("watermark_ns", [None, -5, 1_700_000_000_123_456_789])
def test_a_checkpoint_is_decoded_as_it_was_encoded(watermark_ns: int | None) -> None:
    checkpoint = Checkpoint(offset=5, position=9, watermark_ns=watermark_ns, owner="a")
    assert decode_checkpoint(5, encode_checkpoint(checkpoint)) == checkpoint


SNAPSHOT = SnapshotName(id="ab", first=3, last=4, position=7)


def test_the_name_of_a_snapshot_is_decoded_as_it_was_encoded_and_is_small() -> None:
    checkpoint = Checkpoint(offset=5, position=9, watermark_ns=1, owner="a", snapshot=SNAPSHOT)
    assert decode_checkpoint(5, encode_checkpoint(checkpoint)) == checkpoint
    largest = replace(
        checkpoint,
        owner="a" * 32,
        position=2**63,
        snapshot=SnapshotName(id="a" * 64, first=2**63, last=2**63, position=2**63),
    )
    # Kafka takes 4096 by default.
    assert len(encode_checkpoint(largest)) < 500


@pytest.mark.parametrize(("position", "start"), [(4, 5), (5, 5), (7, 7), (9, 9), (10, 5), (-2, 5)])
def test_reading_begins_at_a_snapshot_of_what_was_judged(position: int, start: int) -> None:
    snapshot = replace(SNAPSHOT, position=position)
    checkpoint = Checkpoint(offset=5, position=9, watermark_ns=1, snapshot=snapshot)
    assert checkpoint.start == start
    assert (checkpoint.usable_snapshot == snapshot) == (5 <= position <= 9)
    assert replace(checkpoint, snapshot=None).start == 5


@pytest.mark.parametrize("snapshot", ["7", "[]", "{}", '{"id": "a", "first": "x", "last": 1, "position": 1}'])
def test_a_name_that_is_none_is_no_name(snapshot: str) -> None:
    metadata = '{"v": 1, "position": 9, "watermark": 7, "snapshot": %s}' % snapshot  # noqa: UP031
    assert decode_checkpoint(5, metadata) == Checkpoint(offset=5, position=9, watermark_ns=7)


def test_metadata_without_a_snapshot_are_as_former_versions_wrote_them() -> None:
    checkpoint = Checkpoint(offset=5, position=9, watermark_ns=7, owner="a")
    assert encode_checkpoint(checkpoint) == '{"v": 1, "position": 9, "watermark": 7, "owner": "a"}'


def test_metadata_of_a_former_version_names_no_owner() -> None:
    assert decode_checkpoint(5, '{"v": 1, "position": 9, "watermark": 7}') == Checkpoint(
        offset=5, position=9, watermark_ns=7, owner=""
    )


@pytest.mark.parametrize("metadata", ["", "nonsense", "[]", '{"v": 2}', '{"v": 1}', '{"v": 1, "position": "x"}'])
def test_without_metadata_everything_is_judged_anew(metadata: str) -> None:
    assert decode_checkpoint(5, metadata) == Checkpoint(offset=5, position=5, watermark_ns=None)


def test_each_type_of_rule_has_a_store() -> None:
    assert set(STORES) == set(RuleType)
    assert {"error-count", "latency", "error-rate"} <= set(STORES.values())


def test_moments_are_exact() -> None:
    assert duration_ns(timedelta(days=1, microseconds=1)) == 86_400_000_001_000
    assert moment_ns(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005_000
    assert window_start(-1, 10) == -10
