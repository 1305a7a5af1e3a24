"""What is reported of the uses of keys, and how often."""

from datetime import timedelta

from services.access.key_uses import KeyUses
from tests.fakes.transitions import NOW

SECOND = timedelta(seconds=1)


def test_the_last_use_of_each_key_is_reported() -> None:
    uses = KeyUses()
    for key, seconds in (("a", 0), ("b", 1), ("a", 2)):
        uses.note(key, NOW + seconds * SECOND)

    assert uses.take_due(NOW + 3 * SECOND) == {"a": NOW + 2 * SECOND, "b": NOW + SECOND}
    assert uses.take_due(NOW + 300 * SECOND) == {}


def test_a_key_that_is_used_all_the_time_is_reported_once_a_minute() -> None:
    uses, reported = KeyUses(), []
    for second in range(300):
        now = NOW + second * SECOND
        uses.note("a", now)
        if uses.take_due(now):
            reported.append(second)

    assert reported == [0, 60, 120, 180, 240]


def test_a_use_within_the_minute_after_a_report_is_reported_when_it_is_over() -> None:
    uses = KeyUses()
    uses.note("a", NOW)
    uses.take_due(NOW)
    uses.note("a", NOW + 5 * SECOND)

    assert uses.take_due(NOW + 59 * SECOND) == {}
    assert uses.take_due(NOW + 60 * SECOND) == {"a": NOW + 5 * SECOND}


def test_what_could_not_be_reported_is_due_again_unless_there_is_a_later_use() -> None:
    uses = KeyUses()
    uses.note("a", NOW)
    uses.note("b", NOW)
    due = uses.take_due(NOW)
    uses.note("b", NOW + SECOND)
    uses.put_back(due)

    assert uses.take_due(NOW + SECOND) == {"a": NOW, "b": NOW + SECOND}
