"""How many notifications an hour a tenant may have: what is sent at once, what is held, and when a bundle is due."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.notification_limit import (
    LimitDecision,
    LimitUsage,
    bundled,
    end_notice,
    ends_notice,
    has_room,
    is_bundle_due,
    limit_notification,
)
from tests.fakes.notifier import NOW

SENT, ALWAYS, HELD = LimitDecision.WITHIN_LIMIT, LimitDecision.ALWAYS_SENT, LimitDecision.HELD
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def decide(
    usage: LimitUsage, limit: int, count: int, *, now: datetime = NOW, is_always_sent: bool = False
) -> tuple[LimitUsage, list[LimitDecision]]:
    decisions = []
    for _ in range(count):
        step = limit_notification(usage, limit, is_always_sent=is_always_sent, now=now)
        usage = step.usage
        decisions.append(step.decision)
    return usage, decisions


def test_a_quarter_of_an_hours_worth_comes_at_once_and_the_rest_is_held() -> None:
    usage, decisions = decide(LimitUsage(), 60, 17)
    assert decisions == [SENT] * 15 + [HELD] * 2
    assert usage.held_since == NOW
    # What follows joins those that are held, though the rate allows another one.
    assert decide(usage, 60, 1, now=NOW + 10 * MINUTE)[1] == [HELD]


def test_a_small_limit_allows_one_at_once() -> None:
    assert decide(LimitUsage(), 1, 2)[1] == [SENT, HELD]
    assert decide(LimitUsage(), 1, 1)[0].used_until == NOW + HOUR


def test_critical_ones_are_always_sent_and_count_up_to_an_hour() -> None:
    usage, decisions = decide(LimitUsage(), 60, 500, is_always_sent=True)
    assert decisions == [ALWAYS] * 500
    assert usage.used_until == NOW + HOUR
    assert decide(usage, 60, 1)[1] == [HELD]


def test_without_a_limit_nothing_is_held_and_nothing_counted() -> None:
    assert decide(LimitUsage(), 0, 1000) == (LimitUsage(), [SENT] * 1000)


def test_a_tenant_is_told_once_an_hour_and_told_that_it_is_over() -> None:
    usage, _ = decide(LimitUsage(), 60, 15)
    first = limit_notification(usage, 60, is_always_sent=False, now=NOW)
    assert first.begins_notice
    assert (first.usage.open_notice, first.usage.notices) == (1, 1)
    assert not limit_notification(first.usage, 60, is_always_sent=False, now=NOW).begins_notice
    assert not ends_notice(first.usage)
    over = bundled(first.usage, 60, bundles=1, oldest_left=None, now=NOW + MINUTE)
    assert ends_notice(over)
    over = end_notice(over)
    assert not ends_notice(over)
    full = replace(over, used_until=NOW + 2 * HOUR)
    assert not limit_notification(full, 60, is_always_sent=False, now=NOW + 59 * MINUTE).begins_notice
    again = limit_notification(full, 60, is_always_sent=False, now=NOW + HOUR)
    assert again.begins_notice
    assert (again.usage.open_notice, again.usage.notices) == (2, 2)


def test_a_bundle_waits_for_a_minute_and_for_the_rate_and_for_an_hour_at_most() -> None:
    usage, _ = decide(LimitUsage(), 60, 16)
    assert not is_bundle_due(LimitUsage(), 60, NOW)
    assert not is_bundle_due(usage, 60, NOW + MINUTE - timedelta(seconds=1))
    assert is_bundle_due(usage, 60, NOW + MINUTE)
    indebted = replace(usage, used_until=NOW + 3 * HOUR)
    assert not is_bundle_due(indebted, 60, NOW + HOUR - MINUTE)
    assert is_bundle_due(indebted, 60, NOW + HOUR)
    # The limit was lifted.
    assert is_bundle_due(indebted, 0, NOW)


def test_each_bundle_counts_as_one_and_what_is_left_waits_on() -> None:
    usage, _ = decide(LimitUsage(), 60, 16)
    later = NOW + MINUTE
    left = bundled(usage, 60, bundles=2, oldest_left=NOW, now=later)
    assert (left.held_since, left.used_until) == (NOW, NOW + 17 * MINUTE)
    assert not has_room(left, 60, later)


@given(st.integers(1, 500), st.lists(st.tuples(st.integers(0, 600), st.integers(1, 40)), max_size=60))
def test_in_no_hour_more_is_sent_than_one_and_a_quarter_of_the_limit(limit: int, steps: list[tuple[int, int]]) -> None:
    usage, now, sent = LimitUsage(), NOW, list[datetime]()
    for seconds, count in steps:
        now += timedelta(seconds=seconds)
        if is_bundle_due(usage, limit, now):
            usage = bundled(usage, limit, bundles=1, oldest_left=None, now=now)
            sent.append(now)
        usage, decisions = decide(usage, limit, count, now=now)
        sent += [now] * decisions.count(SENT)
    allowed = limit * 1.25 + 2
    assert all(sum(begin <= time < begin + HOUR for time in sent) <= allowed for begin in set(sent))
