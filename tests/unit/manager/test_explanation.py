"""Explanations: steps in order, each once, bounded, and summed up."""

import pytest

from services.manager.core.explanation import (
    MAX_EXPLANATION_STEPS,
    ExplanationStep,
    StepKind,
    explanation_of,
)
from tests.fakes.transitions import NOW
from tests.unit.manager.explained import MINUTE


def a_step(kind: StepKind, *, after: int = 0, text: str = "why.", channel: str = "") -> ExplanationStep:
    return ExplanationStep(time=NOW + after * MINUTE, kind=kind, text=text, channel=channel)


@pytest.mark.parametrize(
    ("steps", "summary"),
    [
        ([], "Nobody has been notified: no notification is recorded."),
        ([a_step(StepKind.WITHHELD)], "Nobody was notified. why."),
        (
            [a_step(StepKind.WITHHELD), a_step(StepKind.NOTIFIED, after=1, text="who.")],
            "Nobody has been notified yet: no delivery is recorded. who.",
        ),
        (
            [
                a_step(StepKind.DELIVERED, channel="slack"),
                a_step(StepKind.DELIVERY_FAILED, channel="slack"),
                a_step(StepKind.DELIVERED, channel="mail", after=1),
                a_step(StepKind.DELIVERED, channel="slack", after=2),
                a_step(StepKind.DELIVERY_FAILED, channel="pagerduty"),
            ],
            "Notified: slack, mail. Not delivered: pagerduty.",
        ),
        ([a_step(StepKind.DELIVERY_FAILED, channel="pagerduty")], "Not delivered: pagerduty."),
    ],
)
def test_the_summary_says_who_was_notified_or_why_nobody(steps: list[ExplanationStep], summary: str) -> None:
    assert explanation_of(steps).summary == summary


def test_steps_are_in_order_each_once_and_bounded() -> None:
    steps = [a_step(StepKind.FIRED, after=n % 3000) for n in range(6000)]
    steps += [a_step(StepKind.NOTIFIED, after=3000), a_step(StepKind.RULE, after=3000)]
    found = explanation_of(steps).steps
    assert len(found) == MAX_EXPLANATION_STEPS
    assert [step.kind for step in found[-2:]] == [StepKind.RULE, StepKind.NOTIFIED]


def test_that_nobody_was_reached_stands_before_who_is_notified_therefore() -> None:
    failed, escalated, notified = StepKind.DELIVERY_FAILED, StepKind.ESCALATED, StepKind.NOTIFIED
    steps = [a_step(notified), a_step(failed, channel="slack"), a_step(escalated), a_step(failed)]
    found = explanation_of(steps).steps
    assert [(step.kind, step.channel) for step in found] == [
        (failed, ""),
        (escalated, ""),
        (notified, ""),
        (failed, "slack"),
    ]
