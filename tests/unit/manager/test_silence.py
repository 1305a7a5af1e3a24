"""Silences: what is allowed, their state, and which of them hold of an alert."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest
from services.domain.matchers import all_match, parse_matchers
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.alert_changes import AlertChange, AlertCommand, apply_command, silence
from services.manager.core.alert_lifecycle import AlertAction, Ended
from services.manager.core.silence import Silence, SilenceState, expire, narrows, silence_problems
from services.manager.core.silence_index import MatchedAlert, SilenceIndex
from services.manager.core.transitions import TransitionContext, decide
from services.manager.rpc.silence_commands import read_silence
from services.rule_language.label_regex import compile_regex
from tests.fakes.silences import HOUR, a_silence, recurring
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.silences.v1.silence_pb2 import Silence as SilenceMessage

# On the wall clock.
LONG_AGO = NOW.replace(tzinfo=None) - timedelta(days=365)


@pytest.mark.parametrize(
    ("matchers", "is_narrow"),
    [
        ("service=a", True),
        ('service!=""', True),
        ("service=~.+", True),
        ("service=~.*", False),
        ("service!=a", False),
        ('service=""', False),
        ("alertname!=x", True),
        ('alertname!=""', False),
        ("alertname=~.+", False),
        ("alertname=~High.*", True),
        ('severity!=""', False),
        ("severity=~.+", False),
        ('severity=~"LOW|MEDIUM|HIGH|CRITICAL"', False),
        ("severity!=LOW", True),
        ("service=~.*, team!=x, severity=LOW", True),
    ],
)
def test_some_matcher_leaves_some_alert_out(matchers: str, *, is_narrow: bool) -> None:
    assert narrows(parse_matchers(matchers, compile_regex)) is is_narrow


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({}, []),
        ({"author": ""}, ["author"]),
        ({"comment": " "}, ["comment"]),
        ({"matchers": ()}, ["matchers"]),
        ({"matchers": parse_matchers("a=~.*", compile_regex)}, ["matchers"]),
        ({"matchers": (), "alert_ids": ("a",), "end_time": None}, []),
        ({"alert_ids": ("a",), "end_time": None}, ["matchers"]),
        ({"matchers": (), "alert_ids": ("a",) * 101, "end_time": None}, ["alertIds"]),
        ({"matchers": (), "alert_ids": ("a",)}, ["endTime"]),
        ({"end_time": None}, ["endTime"]),
        ({"end_time": NOW}, ["endTime"]),
        ({"start_time": NOW + HOUR}, ["endTime"]),
        ({"end_time": NOW + timedelta(days=733)}, ["endTime"]),
        ({"end_time": None, "recurrence": recurring("FREQ=DAILY")}, []),
        ({"recurrence": recurring("FREQ=DAILY", timedelta(seconds=59))}, ["recurrence.duration"]),
        ({"recurrence": recurring("FREQ=DAILY", timedelta(days=32))}, ["recurrence.duration"]),
        ({"recurrence": recurring("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30")}, ["recurrence.rule"]),
        ({"recurrence": recurring("FREQ=DAILY;COUNT=2", start=LONG_AGO)}, ["recurrence.rule"]),
        ({"recurrence": recurring("FREQ=DAILY;COUNT=1000", start=LONG_AGO)}, []),
        (
            {"matchers": (), "alert_ids": ("a",), "end_time": None, "recurrence": recurring("FREQ=DAILY")},
            ["recurrence"],
        ),
    ],
)
def test_what_is_not_allowed_is_named(changed: dict[str, Any], fields: list[str]) -> None:
    assert [field for field, _ in silence_problems(replace(a_silence(), **changed), now=NOW)] == fields


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (NOW - HOUR, NOW, f"a time after now, {NOW.isoformat()}"),
        (NOW + HOUR, NOW + HOUR, f"a time after the start, {(NOW + HOUR).isoformat()}"),
        (NOW, NOW + timedelta(days=733), f"at most 732 days after the start, {NOW.isoformat()}"),
    ],
)
def test_an_end_that_does_not_fit_is_shown_with_what_it_must_fit(start: datetime, end: datetime, expected: str) -> None:
    problems = silence_problems(replace(a_silence(), start_time=start, end_time=end), now=NOW)
    assert problems == [("endTime", f"is {end.isoformat()}, expected {expected}")]


def test_a_long_duration_is_shown_in_seconds() -> None:
    silence = replace(a_silence(), end_time=None, recurrence=recurring("FREQ=DAILY", timedelta(days=32)))
    assert silence_problems(silence, now=NOW) == [("recurrence.duration", "is 2764800s, must be 60s to 2678400s")]


def test_a_state_follows_from_the_time() -> None:
    span = a_silence(start_time=NOW + HOUR, end_time=NOW + 2 * HOUR)
    times = [NOW, NOW + HOUR, NOW + 2 * HOUR]
    assert [span.state(now) for now in times] == [SilenceState.PENDING, SilenceState.ACTIVE, SilenceState.EXPIRED]
    assert [span.next_border(now) for now in times] == [NOW + HOUR, NOW + 2 * HOUR, None]
    assert expire(span, now=NOW).state(NOW) is SilenceState.EXPIRED
    assert expire(span, now=NOW).etag != span.etag
    endless = a_silence(matchers="", alert_ids=("a",), end_time=None)
    assert (endless.state(NOW + 9 * HOUR), endless.next_border(NOW)) == (SilenceState.ACTIVE, None)


def test_one_that_recurs_waits_between_its_times() -> None:
    recurrence = recurring("FREQ=DAILY;COUNT=2")
    daily = a_silence(recurrence=recurrence, end_time=recurrence.end)
    times = [NOW + n * HOUR for n in (0, 1, 24, 25)]
    assert [daily.state(now).value for now in times] == ["ACTIVE", "PENDING", "ACTIVE", "EXPIRED"]
    assert [daily.next_border(now) for now in times] == [*times[1:], None]
    later = replace(daily, start_time=NOW + HOUR / 2)
    assert later.state(NOW) is SilenceState.PENDING
    assert later.next_border(NOW) == NOW + HOUR / 2


def test_an_index_is_valid_until_a_silence_begins_or_ends() -> None:
    later = a_silence(id="l", start_time=NOW + HOUR, end_time=NOW + 2 * HOUR)
    index = SilenceIndex.of([a_silence(), later], now=NOW)
    assert (index.is_valid(NOW), index.is_valid(NOW + HOUR)) == (True, False)
    assert index.silencing("a", {"service": "payment-service"}) == ("s",)
    assert SilenceIndex.of([], now=NOW).is_valid(NOW + 99 * HOUR)


def test_each_silence_that_holds_is_found() -> None:
    silences = [
        a_silence("service=a, team=t", id="both"),
        a_silence("team=t", id="team"),
        a_silence("host!=h", id="other"),
        a_silence("", alert_ids=("x", "y"), end_time=None, id="named"),
        a_silence("team=t", start_time=NOW + HOUR, id="later"),
    ]
    index = SilenceIndex.of(silences, now=NOW)
    assert index.silencing("x", {"service": "a", "team": "t", "host": "h"}) == ("both", "named", "team")
    assert index.silencing("z", {"service": "a"}) == ("other",)
    assert index.silencing("z", {"host": "h"}) == ()


_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", ""]), max_size=3)
_MATCHERS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["=", "!=", "=~", "!~"]), st.sampled_from(["1", "2", '""'])).map(
        "".join
    ),
    min_size=1,
    max_size=3,
).map(", ".join)


@given(st.lists(st.one_of(_MATCHERS, st.just("")), max_size=6), _LABELS)
def test_law_the_index_finds_what_all_silences_together_say(texts: list[str], labels: dict[str, str]) -> None:
    silences = [
        a_silence(text, id=str(n)) if text else a_silence("", id=str(n), alert_ids=("x",), end_time=None)
        for n, text in enumerate(texts)
    ]
    naive = sorted(
        each.id for each in silences if (all_match(each.matchers, labels) if each.matchers else "x" in each.alert_ids)
    )
    assert SilenceIndex.of(silences, now=NOW).silencing("x", labels) == tuple(naive)


def opened(*silences: Silence) -> AlertChange:
    _, (outcome,) = decide(TransitionContext(), [a_transition()], NOW, SilenceIndex.of(silences, now=NOW).silencing)
    assert outcome.change is not None
    return outcome.change


def test_an_alert_that_is_silenced_says_so_from_its_beginning() -> None:
    change = opened(a_silence())
    assert change.alert.silenced_by == ("s",)
    assert [entry.kind for entry in change.history] == [AlertHistoryKind.FIRED, AlertHistoryKind.SILENCED]
    assert change.history[1].comment == "by s"
    for action in AlertAction:
        done, _ = apply_command(change.alert, AlertCommand(action=action), now=NOW)
        assert done is not None
        assert done.alert.silenced_by == ("s",)


def test_an_end_that_came_first_is_silenced_with_its_firing() -> None:
    silencing = SilenceIndex.of([a_silence()], now=NOW).silencing
    _, (_, fired) = decide(TransitionContext(), [a_transition(Ended, window=1), a_transition()], NOW, silencing)
    assert fired.change is not None
    assert fired.change.alert.silenced_by == ("s",)


def test_an_alert_takes_over_which_silences_hold_of_it() -> None:
    before = opened().alert
    assert silence(before, (), now=NOW) is None
    marked = silence(before, ("s", "t"), now=NOW)
    assert marked is not None
    assert (marked.alert.silenced_by, marked.alert.version) == (("s", "t"), before.version + 1)
    assert [entry.comment for entry in marked.history] == ["by s", "by t"]
    left = silence(marked.alert, ("t",), now=NOW)
    assert left is not None
    assert (left.history, left.alert.silenced_by) == ((), ("t",))
    assert silence(left.alert, ("t",), now=NOW) is None


@pytest.mark.parametrize(
    ("alert", "is_outdated"),
    [
        ({"labels": {"service": "payment-service"}}, True),
        ({"labels": {"service": "payment-service"}, "silenced_by": ("s",)}, False),
        ({"labels": {"service": "x"}}, False),
        ({"labels": {"service": "x"}, "silenced_by": ("s",)}, True),
    ],
)
def test_an_alert_is_looked_at_again_when_what_it_remembers_is_outdated(
    alert: dict[str, Any], *, is_outdated: bool
) -> None:
    index = SilenceIndex.of([a_silence()], now=NOW)
    assert MatchedAlert(id="a", **alert).is_outdated(index) is is_outdated


def test_the_labels_of_the_fakes_are_those_that_are_silenced() -> None:
    assert a_subject().labels["service"] == "payment-service"
    assert datetime(2026, 1, 1, 13, tzinfo=UTC) == NOW


@pytest.mark.parametrize("rule", ["FREQ=DAILY;COUNT=1", "FREQ=HOURLY;UNTIL=20260301", "FREQ=DAILY"])
@pytest.mark.parametrize("seconds", [-315_576_000_000, 315_576_000_000, 1 << 60])
def test_a_duration_beyond_all_times_is_refused_as_any_other(rule: str, seconds: int) -> None:
    message = SilenceMessage(matchers=["a=b"], author="ann", comment="why")
    message.recurrence.rule, message.recurrence.start_time, message.recurrence.time_zone = rule, "2026-01-01", "UTC"
    message.recurrence.duration.seconds = seconds
    with pytest.raises(InvalidRequest) as refused:
        read_silence(message, "s", NOW)
    assert [violation.field for violation in refused.value.violations] == ["recurrence.duration"]
