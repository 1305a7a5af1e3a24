"""The order in which transitions are published."""

from collections.abc import Sequence
from dataclasses import replace

from services.evaluator.worker.transition_publisher import Backlog, PendingTransition
from tests.fakes.evaluator import FIRED


def pending(rule_id: str, group: str, number: int = 0, partition: int = 0) -> PendingTransition:
    return PendingTransition(
        partition, replace(FIRED, id=f"{rule_id}-{group}-{number}", rule_id=rule_id, group=(group,))
    )


def ids(batch: Sequence[PendingTransition]) -> list[str]:
    return [each.transition.id for each in batch]


def test_a_group_occurs_once_in_each_batch_and_keeps_its_order() -> None:
    backlog = Backlog()
    backlog.add([pending("r", "a", 1), pending("r", "a", 2), pending("r", "b", 1)])
    assert ids(backlog.next_batch()) == ["r-a-1"]
    assert ids(backlog.next_batch()) == ["r-a-2", "r-b-1"]
    assert (backlog.next_batch(), len(backlog)) == ([], 0)


def test_rules_take_turns_and_who_waited_is_first() -> None:
    backlog = Backlog()
    backlog.add(pending("many", str(number)) for number in range(100))
    backlog.add([pending("one", "a"), pending("two", "a")])
    assert ids(backlog.next_batch(3)) == ["many-0-0", "one-a-0", "two-a-0"]
    backlog.add([pending("three", "a")])
    assert ids(backlog.next_batch(1)) == ["many-1-0"]
    assert ids(backlog.next_batch(1)) == ["three-a-0"]
    assert len(backlog) == 98


def test_transitions_of_revoked_partitions_are_discarded() -> None:
    backlog = Backlog()
    backlog.add([pending("r", "a", partition=1), pending("r", "b", partition=2)])
    assert backlog.partitions() == {1, 2}
    backlog.discard([1])
    assert ids(backlog.next_batch()) == ["r-b-0"]
