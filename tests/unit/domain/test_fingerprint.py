"""What is the same trouble gets the same name, and nothing else does."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.domain.fingerprint import digest, fingerprint
from services.domain.severity import Severity
from services.evaluator.core.window.episode import resource_of

# Few letters, so that parts often begin alike; with all that is used to tell parts from each other.
words = st.text("ab12:,=\\", max_size=5)
parts = st.lists(words, max_size=4)
troubles = st.tuples(words, words, st.sampled_from(list(Severity)))


def named(trouble: tuple[str, str, Severity]) -> str:
    rule_id, resource, severity = trouble
    return fingerprint(rule_id=rule_id, resource=resource, severity=severity)


@given(parts, parts)
def test_a_digest_is_that_of_its_parts_and_of_no_others(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


@given(parts.flatmap(lambda given: st.tuples(st.just(given), st.integers(0, max(len(given) - 1, 0)))))
def test_parts_that_are_joined_are_others(both: tuple[list[str], int]) -> None:
    given_parts, at = both
    assume(at + 1 < len(given_parts))
    joined = [*given_parts[:at], given_parts[at] + given_parts[at + 1], *given_parts[at + 2 :]]
    assert digest(*given_parts) != digest(*joined)


@given(troubles, troubles)
def test_a_fingerprint_is_that_of_rule_resource_and_severity(
    one: tuple[str, str, Severity], other: tuple[str, str, Severity]
) -> None:
    assert (named(one) == named(other)) == (one == other)


@given(st.lists(words, unique=True, max_size=3).flatmap(lambda names: st.tuples(st.just(names), *[groups(names)] * 2)))
def test_different_groups_of_a_rule_are_different_resources(
    drawn: tuple[list[str], Sequence[str], Sequence[str]],
) -> None:
    names, one, other = drawn
    assert (resource_of(names, one) == resource_of(names, other)) == (one == other)


def groups(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(words, min_size=len(names), max_size=len(names))


@pytest.mark.parametrize(
    ("group_by", "group", "resource"),
    [
        pytest.param([], [], "all", id="without grouping"),
        pytest.param(["host"], ["a=b"], "a=b", id="one field is its value"),
        pytest.param(["host", "attributes.a,b"], ["x\\y", "1=2"], "host=x\\\\y,attributes.a\\,b=1\\=2", id="several"),
    ],
)
def test_a_resource_reads_as_its_group(group_by: list[str], group: list[str], resource: str) -> None:
    assert resource_of(group_by, group) == resource


def test_a_group_with_a_value_too_few_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 fields but 1 values"):
        resource_of(["service", "host"], ["a"])


@given(st.text(max_size=20))
def test_a_name_has_32_digits(text: str) -> None:
    name = digest(text)
    assert len(name) == 32
    assert int(name, 16) >= 0
