"""Refusals that repeat each other become one entry: by example, and as a law."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.domain.audit_record import REFUSAL_SPAN, AuditOutcome, AuditRecord, RefusalFolder
from tests.fakes.access import an_audit_record
from tests.fakes.transitions import NOW

SECOND = timedelta(seconds=1)


def refusal(number: int, **changed: object) -> AuditRecord:
    values = {"id": f"r{number}", "outcome": AuditOutcome.REFUSED, "code": "PERMISSION_DENIED", "reason": "DENIED"}
    return an_audit_record(**values | {"create_time": NOW + number * SECOND} | changed)


def test_the_first_is_an_entry_at_once_and_those_of_the_minute_after_it_are_one() -> None:
    folder = RefusalFolder()

    assert folder.add(refusal(0)) == refusal(0)
    assert [folder.add(refusal(n)) for n in (1, 2, 59)] == [None, None, None]
    assert folder.take_due(NOW + REFUSAL_SPAN - SECOND) == []
    (folded,) = folder.take_due(NOW + REFUSAL_SPAN)
    assert folded == refusal(59, id="r1", count=3)


def test_after_that_minute_the_next_one_is_a_first_again() -> None:
    folder = RefusalFolder()
    folder.add(refusal(0))

    assert folder.take_due(NOW + REFUSAL_SPAN) == []
    assert folder.add(refusal(61)) == refusal(61)


def test_refusals_that_differ_in_what_matters_are_entries_of_their_own() -> None:
    folder = RefusalFolder()
    folder.add(refusal(0))

    for changed in (
        {"tenant": "other"},
        {"actor": "bob"},
        {"actor_id": "bbbbbbbbbbbb"},
        {"method": "another"},
        {"peer_address": "192.0.2.2"},
        {"code": "UNAUTHENTICATED"},
        {"reason": "other"},
    ):
        assert folder.add(refusal(1, **changed)) == refusal(1, **changed)
    assert folder.add(refusal(2, resource="other", request_id="other", trace_id="other")) is None


def test_more_than_a_thousand_different_ones_are_counted_together_without_names() -> None:
    folder = RefusalFolder()
    written = [folder.add(refusal(n, create_time=NOW, peer_address=f"192.0.2.{n}")) for n in range(1_500)]

    assert sum(each is not None for each in written) == 1_000
    (anybody,) = folder.take_due(NOW + REFUSAL_SPAN)
    assert (anybody.count, anybody.tenant, anybody.service) == (500, "default", "manager")
    empty = ("actor", "actor_kind", "actor_id", "role", "method", "resource", "peer_address", "request_id")
    assert {getattr(anybody, name) for name in (*empty, "trace_id", "code", "reason")} == {""}
    assert folder.add(refusal(70)) == refusal(70)


def test_at_the_end_all_that_was_counted_comes_out() -> None:
    folder = RefusalFolder()
    for n in range(3):
        folder.add(refusal(n))

    assert [each.count for each in folder.take_all()] == [2]
    assert folder.take_all() == []


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from("abc")), max_size=60))
def test_no_refusal_is_lost_and_none_is_counted_twice(calls: list[tuple[int, str]]) -> None:
    folder = RefusalFolder()
    written: list[AuditRecord] = []
    for n, (second, actor) in enumerate(sorted(calls)):
        written += folder.take_due(NOW + second * SECOND)
        first = folder.add(refusal(second, id=str(n), actor=actor))
        written += [first] if first else []
    written += folder.take_all()

    for actor in "abc":
        assert sum(each.count for each in written if each.actor == actor) == sum(name == actor for _, name in calls)
    assert len({each.id for each in written}) == len(written)
