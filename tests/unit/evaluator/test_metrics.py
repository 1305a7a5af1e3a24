"""The evaluator's metrics."""

from collections.abc import Iterator

import pytest

from services.chassis import telemetry
from services.evaluator.metrics import Metrics, PartitionState


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with telemetry.telemetry("test", "i", ""):
        yield Metrics()


def series(name: str) -> list[str]:
    return [line for line in telemetry.exposition()[0].decode().splitlines() if line.startswith(name)]


def state(watermark_age: float | None = None) -> PartitionState:
    return PartitionState(watermark_age=watermark_age, open_groups=2, firing_groups=1)


def test_a_revoked_partition_is_no_longer_shown(metrics: Metrics) -> None:
    metrics.partitions({0: state(1.5), 1: state(2.5)})
    metrics.partitions({1: state(2.5)})
    assert series("tocsin_evaluator_watermark") == ['tocsin_evaluator_watermark_age_seconds{partition="1"} 2.5']
    assert series("tocsin_evaluator_groups_firing") == ['tocsin_evaluator_groups_firing{partition="1"} 1.0']


def test_an_unknown_watermark_is_not_shown(metrics: Metrics) -> None:
    metrics.partitions({0: state()})
    assert series("tocsin_evaluator_watermark") == []
    assert series("tocsin_evaluator_groups_open") == ['tocsin_evaluator_groups_open{partition="0"} 2.0']


def test_a_refused_rule_is_shown(metrics: Metrics) -> None:
    assert series("tocsin_evaluator_rules{") == []
    metrics.rules(evaluated=3, refused=1)
    assert series("tocsin_evaluator_rules{") == [
        'tocsin_evaluator_rules{state="evaluated"} 3.0',
        'tocsin_evaluator_rules{state="refused"} 1.0',
    ]
