"""What the metadata of a committed offset say of a block, and when they say nothing."""

import json

import pytest

from services.evaluator.core.match.sent_block import SentBlock, encode_sent, sent_up_to
from services.evaluator.core.rules import RuleSet
from tests.unit.evaluator.pipeline import rule

SENT = SentBlock(start=256, up_to=300, outputs=4, selections="some")


def test_it_is_known_how_far_a_block_was_sent() -> None:
    assert sent_up_to(encode_sent(SENT), start=256, outputs=4, selections="some") == 300


@pytest.mark.parametrize(
    ("start", "outputs", "selections"),
    [
        pytest.param(0, 4, "some", id="Kafka no longer has the committed offset"),
        pytest.param(256, 8, "some", id="rows go to other output partitions"),
        pytest.param(256, 4, "other", id="rules select something else"),
    ],
)
def test_nothing_is_known_of_other_rows(start: int, outputs: int, selections: str) -> None:
    assert sent_up_to(encode_sent(SENT), start=start, outputs=outputs, selections=selections) == start


@pytest.mark.parametrize(
    "metadata", ["", "{", "[]", "3", "{}", '{"up_to": null}', '{"v": 1, "up_to": 300}', json.dumps({"v": 2})]
)
def test_nothing_is_known_from_what_others_committed(metadata: str) -> None:
    assert sent_up_to(metadata, start=256, outputs=4, selections="some") == 256


def test_nothing_is_known_from_another_version() -> None:
    other = json.dumps(json.loads(encode_sent(SENT)) | {"v": 2})
    assert sent_up_to(other, start=256, outputs=4, selections="some") == 256


def test_rules_have_the_name_of_what_they_select_and_of_the_totals_that_they_need() -> None:
    count, rated = rule("count", "count > threshold"), rule("rated", "rate > 0.5")
    digests = {
        RuleSet.of(1, rules).selection_digest
        for rules in (
            [count],
            [rated],
            [count, rated],
            [rule("count", "rate > 0.5")],
            [rule("count", "count > 1", selection_revision=2)],
        )
    }
    assert len(digests) == 5
    edited = rule("count", "count > threshold", 7.0, revision=3)
    assert RuleSet.of(2, [rated, edited]).selection_digest == RuleSet.of(1, [count, rated]).selection_digest
