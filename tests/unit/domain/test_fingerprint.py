"""Equal parts have equal keys, and different parts have different ones."""

from uuid import UUID, uuid5

from hypothesis import assume, given
from hypothesis import strategies as st

from services.domain.fingerprint import digest, fingerprint, stable_id
from services.domain.severity import Severity

# Few characters, so that parts often have equal prefixes; among them those that separate parts.
words = st.text("ab12:,=\\", max_size=5)
parts = st.lists(words, max_size=4)
keys = st.tuples(words, words, st.sampled_from(list(Severity)))


def fingerprint_of(key: tuple[str, str, Severity]) -> str:
    rule_id, resource, severity = key
    return fingerprint(rule_id=rule_id, resource=resource, severity=severity)


@given(parts, parts)
def test_digests_are_equal_only_for_equal_parts(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


@given(parts.flatmap(lambda given: st.tuples(st.just(given), st.integers(0, max(len(given) - 1, 0)))))
def test_joined_parts_have_another_digest(both: tuple[list[str], int]) -> None:
    given_parts, at = both
    assume(at + 1 < len(given_parts))
    joined = [*given_parts[:at], given_parts[at] + given_parts[at + 1], *given_parts[at + 2 :]]
    assert digest(*given_parts) != digest(*joined)


@given(keys, keys)
def test_fingerprints_are_equal_only_for_equal_rule_resource_and_severity(
    one: tuple[str, str, Severity], other: tuple[str, str, Severity]
) -> None:
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one == other)


@given(st.text(max_size=20))
def test_a_digest_has_32_digits(text: str) -> None:
    name = digest(text)
    assert len(name) == 32
    assert int(name, 16) >= 0


@given(st.uuids(), parts)
def test_a_stable_id_is_the_uuid_of_the_digest(namespace: UUID, given_parts: list[str]) -> None:
    assert stable_id(namespace, *given_parts) == str(uuid5(namespace, digest(*given_parts)))
