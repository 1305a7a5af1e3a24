"""The evaluator's metrics."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.chassis import telemetry
from services.domain.severity import Severity
from services.evaluator.core.records import TransitionReason
from services.evaluator.core.rules import RuleSet
from services.evaluator.metrics import Metrics, PartitionState
from tests.fakes.evaluator import NOW
from tests.unit.evaluator.pipeline import rule
from tests.unit.evaluator.stage_driver import COUNT, StageDriver, row

ONE = replace(rule("id-1", "count > threshold"), name="errors")
OTHER = replace(rule("id-2", "count > threshold"), name="other")


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


def test_groups_are_shown_by_tenant_and_what_is_beyond_a_limit_stays_counted(metrics: Metrics) -> None:
    metrics.rules(RuleSet.of(1, [ONE, replace(OTHER, tenant="acme")]))
    metrics.beyond_limit({"id-1": 4})
    metrics.rules(RuleSet.of(2, [OTHER]))
    metrics.partitions(
        {0: replace(state(), tenant_groups={"default": 2, "acme": 3}), 1: replace(state(), tenant_groups={"acme": 4})}
    )
    assert sorted(series("tocsin_evaluator_tenant")) == [
        'tocsin_evaluator_tenant_events_beyond_limit_total{tenant="acme"} 0.0',
        'tocsin_evaluator_tenant_events_beyond_limit_total{tenant="default"} 4.0',
        'tocsin_evaluator_tenant_groups{tenant="acme"} 7.0',
        'tocsin_evaluator_tenant_groups{tenant="default"} 2.0',
    ]


def test_a_refused_rule_is_shown(metrics: Metrics) -> None:
    assert series("tocsin_evaluator_rules{") == series("tocsin_evaluator_rules_revision") == []
    metrics.rules(replace(RuleSet.of(7, [ONE, OTHER]), refused={"id-3": ValueError("too long")}))
    assert series("tocsin_evaluator_rules{") == [
        'tocsin_evaluator_rules{state="evaluated"} 2.0',
        'tocsin_evaluator_rules{state="refused"} 1.0',
    ]
    assert series("tocsin_evaluator_rules_revision") == ["tocsin_evaluator_rules_revision 7.0"]


def test_a_rule_has_series_from_the_start_and_keeps_them_when_it_is_edited(metrics: Metrics) -> None:
    metrics.rules(RuleSet.of(1, [ONE]))
    assert series("tocsin_evaluator_rule_") == [
        'tocsin_evaluator_rule_events_matched_total{rule="errors",severity="HIGH"} 0.0',
        'tocsin_evaluator_rule_events_late_total{rule="errors",severity="HIGH"} 0.0',
        'tocsin_evaluator_rule_events_beyond_limit_total{rule="errors",severity="HIGH"} 0.0',
        'tocsin_evaluator_rule_fired_total{rule="errors",severity="HIGH"} 0.0',
    ]
    metrics.rules_evaluated({"id-1": 5}, NOW)
    metrics.rules_evaluated({"id-1": 2}, NOW)
    metrics.late(3, {"id-1": 2})
    metrics.beyond_limit({"id-1": 4, "unknown": 1})
    metrics.rules(RuleSet.of(2, [replace(ONE, name="failures", severity=Severity.LOW)]))
    labels = '{rule="failures",severity="LOW"}'
    shown = [line.rpartition(" ") for line in series("tocsin_evaluator_rule_")]
    assert [(name, float(value)) for name, _, value in shown] == [
        (f"tocsin_evaluator_rule_events_matched_total{labels}", 7),
        (f"tocsin_evaluator_rule_events_late_total{labels}", 2),
        (f"tocsin_evaluator_rule_events_beyond_limit_total{labels}", 4),
        (f"tocsin_evaluator_rule_fired_total{labels}", 0),
        (f"tocsin_evaluator_rule_last_evaluation_timestamp_seconds{labels}", NOW.timestamp()),
    ]
    assert series("late_events_total") == ["late_events_total 3.0"]


def test_the_series_of_a_rule_that_is_gone_go_with_it_and_begin_again(metrics: Metrics) -> None:
    metrics.rules(RuleSet.of(1, [ONE, OTHER]))
    metrics.rules_evaluated({"id-1": 1, "id-2": 4}, NOW)
    metrics.rules(RuleSet.of(2, [ONE]))
    metrics.rules_evaluated({"id-2": 4}, NOW)
    metrics.late(1, {"id-2": 1})
    assert not [line for line in series("tocsin_evaluator_rule_") if "other" in line]
    metrics.rules(RuleSet.of(3, [ONE, OTHER]))
    values = [line.rpartition(" ")[2] for line in series("tocsin_evaluator_rule_events_matched")]
    assert values == ["1.0", "0.0"]


def test_only_transitions_that_begin_an_alert_count_as_fired(metrics: Metrics) -> None:
    driver = StageDriver.with_rules(COUNT)
    driver.flush(row(3), event=1)
    (fired,) = driver.transitions
    metrics.rules(RuleSet.of(1, [COUNT]))
    metrics.transition(fired)
    metrics.transition(replace(fired, reason=TransitionReason.RULE_EDITED))
    metrics.transition(replace(fired, reason=TransitionReason.SILENT))
    (line,) = series("tocsin_evaluator_rule_fired")
    assert line.endswith(" 1.0")
