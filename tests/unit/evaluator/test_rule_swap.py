"""New rules: each block comes to what they alone make of it, whatever was flushed of it before."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.evaluator.core.match.rule_swap import RuleSwap, swap_rules
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import Event, Pipeline, Window, rule

COUNT, SHARER = rule("count", "count > threshold"), rule("sharer", "rate > 0.9")
RATED = rule("rated", "rate > 0.5", revision=2, selection_revision=2)
# A rule that reads the same totals as the new one.
BEFORE, AFTER = RuleSet.of(1, [COUNT, SHARER]), RuleSet.of(2, [COUNT, SHARER, RATED])


@pytest.mark.parametrize(
    ("before", "rules", "is_at_border", "may_begin_again", "swap"),
    [
        pytest.param(None, AFTER, False, True, RuleSwap.USE, id="the first rules"),
        pytest.param(BEFORE, AFTER, False, True, RuleSwap.BEGIN_AGAIN, id="a new rule"),
        pytest.param(BEFORE, AFTER, False, False, RuleSwap.KEEP, id="a new rule soon after another"),
        pytest.param(BEFORE, AFTER, True, False, RuleSwap.USE, id="at a border"),
        pytest.param(AFTER, BEFORE, False, True, RuleSwap.USE, id="a rule that is gone"),
        pytest.param(
            RuleSet.of(1, [rule("count", "rate > 0.5")]),
            RuleSet.of(2, [rule("count", "count > threshold", revision=2)]),
            False,
            True,
            RuleSwap.USE,
            id="another condition that needs less",
        ),
        pytest.param(
            BEFORE,
            RuleSet.of(2, [rule("count", "rate > 0.5", revision=2), SHARER]),
            False,
            True,
            RuleSwap.BEGIN_AGAIN,
            id="another condition that needs totals",
        ),
    ],
)
def test_blocks_begin_again_only_for_rules_that_select_more(
    *, before: RuleSet | None, rules: RuleSet, is_at_border: bool, may_begin_again: bool, swap: RuleSwap
) -> None:
    assert swap_rules(before, rules, is_at_border=is_at_border, may_begin_again=may_begin_again) is swap


cuts = st.lists(st.integers(1, 4), min_size=1, max_size=6)


events = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ERROR", "INFO"])), min_size=1, max_size=10)


@example(events=[("a", "ERROR"), ("a", "INFO"), ("b", "ERROR")], before=[3], after=[2], is_known=True)
@example(events=[("a", "ERROR"), ("a", "INFO")], before=[2], after=[2], is_known=True)
@given(events=events, before=cuts, after=cuts, is_known=st.booleans())
def test_a_block_that_begins_again_comes_to_what_the_new_rules_make_of_it(
    *, events: list[tuple[str, str]], before: list[int], after: list[int], is_known: bool
) -> None:
    swapped, alone = Pipeline(BEFORE, inputs=1, outputs=1), Pipeline(AFTER, inputs=1, outputs=1)
    for pipeline in (swapped, alone):
        for second, (service, level) in enumerate(events):
            pipeline.append(0, [Event(second=second, service=service, level=level)])
    matcher, window = swapped.matcher(), swapped.window(0)
    for most in before:
        swapped.match(matcher, 0, most)
        swapped.flush(matcher)
    swapped.judge(0, window, 10**6)
    swapped.rules = AFTER
    if is_known:
        window.stage.update_rules(AFTER, swapped.now_ns)
    matcher.sources[0], matcher.positions[0] = matcher.sources[0].again(swapped.match_offsets[0]), 0
    for most in (*after, 10**6):
        swapped.match(matcher, 0, most)
        swapped.flush(matcher)
    if not is_known:
        window.stage.update_rules(AFTER, swapped.now_ns)
    swapped.judge(0, window, 10**6)
    matcher, other = alone.matcher(), alone.window(0)
    alone.match(matcher, 0, 10**6)
    alone.flush(matcher)
    alone.judge(0, other, 10**6)
    assert content(window) == content(other)
    swapped.commit(0, window)
    again = swapped.window(0)
    swapped.judge(0, again, 10**6)
    assert content(again) == content(other)


def content(window: Window) -> list[str]:
    return sorted(map(repr, window.content()))
