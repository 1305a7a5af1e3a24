"""Tenants share a consumer's batches: whom a backlog delays, in which order records come, and what is committed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.kafka import Record
from services.chassis.kafka.fair_queue import FairQueue


def record(offset: int, tenant: str = "a", partition: int = 0) -> Record:
    return Record("alerts", partition, offset, None, tenant.encode(), (), 0)


def tenant_of(record: Record) -> str:
    return record.value.decode()


def a_queue(limit: int = 10, quantum: int = 2, max_ahead: int = 200) -> FairQueue:
    return FairQueue(tenant_of, limit=limit, quantum=quantum, max_ahead=max_ahead)


def fill(queue: FairQueue, tenants: str, *, first: int = 0) -> None:
    """Put a record for each letter, which names its tenant."""
    queue.put([record(first + place, tenant) for place, tenant in enumerate(tenants)])


def take(queue: FairQueue) -> str:
    """Return the offsets and tenants of a batch, and what may be committed after it."""
    records, offsets = queue.take()
    return " ".join(f"{each.offset}{tenant_of(each)}" for each in records) + f" | {offsets.get(0)}"


def test_what_fits_into_a_quantum_is_taken_as_it_came() -> None:
    queue = a_queue(quantum=3)
    fill(queue, "aba")
    assert take(queue) == "0a 1b 2a | 3"
    assert not queue
    assert take(queue) == " | None"


def test_a_tenant_alone_gets_whole_batches() -> None:
    queue = a_queue(limit=4)
    fill(queue, "aaaaaa")
    assert [take(queue), take(queue)] == ["0a 1a 2a 3a | 4", "4a 5a | 6"]


def test_a_backlog_gives_way_to_the_others_after_a_quantum_of_each_batch() -> None:
    queue = a_queue()
    fill(queue, "aaaaabc")
    assert take(queue) == "0a 1a 5b 6c | 2"
    assert len(queue) == 3
    assert take(queue) == "2a 3a | 4"
    # What was taken ahead is committed with what was before it.
    assert take(queue) == "4a | 7"


def test_who_comes_later_waits_for_a_quantum_and_not_for_the_backlog() -> None:
    queue = a_queue()
    fill(queue, "aaaaaaaab")
    take(queue)
    fill(queue, "c", first=9)
    assert take(queue) == "2a 3a 9c | 4"


def test_once_tenants_have_shared_a_batch_none_gets_a_whole_one_again() -> None:
    queue = a_queue()
    fill(queue, "aaab")
    assert [take(queue), take(queue)] == ["0a 1a 3b | 2", "2a | 4"]
    fill(queue, "aaaaa", first=4)
    assert take(queue) == "4a 5a | 6"


def test_a_line_for_whose_share_a_batch_has_no_room_is_the_first_of_the_next() -> None:
    queue = a_queue(limit=3)
    fill(queue, "aabbccc")
    assert [take(queue), take(queue), take(queue)] == ["0a 1a | 2", "2b 3b | 4", "4c 5c | 6"]
    queue = a_queue(limit=3)
    fill(queue, "aabccc")
    assert [take(queue), take(queue)] == ["0a 1a 2b | 3", "3c 4c | 5"]


def test_of_revoked_partitions_nothing_is_taken_any_more() -> None:
    queue = a_queue()
    queue.put([record(number, "ab"[number % 2], number % 2) for number in range(6)])
    queue.put([record(6, "a", 1)])
    assert queue.take().offsets == {0: 4, 1: 5}
    queue.drop([])
    assert (len(queue), queue.oldest_offsets) == (3, {0: 4, 1: 5})
    queue.drop([1])
    assert (len(queue), queue.bytes, queue.oldest_offsets) == (1, 1, {0: 4})
    # The partition has come back: it is read from where it was committed.
    queue.put([record(5, "b", 1)])
    records, offsets = queue.take()
    assert ([each.offset for each in records], offsets) == ([4, 5], {0: 5, 1: 6})
    assert (len(queue), queue.bytes, queue.oldest_offsets) == (0, 0, {})


def test_there_is_room_for_two_batches_until_so_many_records_are_ahead() -> None:
    queue = a_queue(limit=3, max_ahead=8)
    assert queue.room == 6
    fill(queue, "aaaaa")
    assert queue.room == 3
    fill(queue, "aaa", first=5)
    # Who fetches nothing hears of no rebalance.
    assert queue.room == 1


def test_there_is_no_room_for_more_than_16_mib() -> None:
    queue, mebibyte = a_queue(), bytes(1024 * 1024)
    queue.put([replace(record(number), value=mebibyte) for number in range(15)])
    assert queue.room == 20
    queue.put([replace(record(15), value=mebibyte)])
    assert queue.room == 1


_STEPS = st.lists(
    st.one_of(
        st.just("take"),
        st.sampled_from([0, 1]).map(lambda partition: (partition,)),
        # Records that come together: partition, tenant, and how many offsets are left out before.
        st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 2)), max_size=30),
    ),
    max_size=25,
)


class Broker:
    """Gives records to a queue, from the committed offset again after a partition was revoked."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.all: dict[int, list[Record]] = {0: [], 1: []}
        self.committed = {0: 0, 1: 0}
        self.handled: list[Record] = []

    def put(self, arriving: Sequence[tuple[int, str, int]]) -> None:
        records = []
        for partition, tenant, gap in arriving:
            known = self.all[partition]
            records.append(record((known[-1].offset + 1 if known else 0) + gap, tenant, partition))
            known.append(records[-1])
        self.queue.put(records)

    def revoke(self, partition: int) -> None:
        self.queue.drop([partition])
        self.queue.put([each for each in self.all[partition] if each.offset >= self.committed[partition]])

    def take(self) -> list[Record]:
        records, offsets = self.queue.take()
        self.handled += records
        for partition, offset in offsets.items():
            assert offset >= self.committed[partition]
            self.committed[partition] = offset
        return records


@given(steps=_STEPS, quantum=st.integers(1, 5), quanta=st.integers(1, 3))
def test_nothing_is_lost_and_a_tenants_records_keep_their_order(
    steps: list[str | tuple[int] | list[tuple[int, str, int]]], quantum: int, quanta: int
) -> None:
    broker = Broker(a_queue(limit=quantum * quanta, quantum=quantum))
    for step in steps:
        if isinstance(step, tuple):
            broker.revoke(*step)
        elif isinstance(step, list):
            broker.put(step)
        else:
            broker.take()
        # Whatever is committed has been handled: a crash here loses nothing.
        handled = {(each.partition, each.offset) for each in broker.handled}
        for partition, records in broker.all.items():
            before = {each.offset for each in records if each.offset < broker.committed[partition]}
            assert before <= {offset for of, offset in handled if of == partition}
    while broker.take():
        pass
    assert broker.committed == {of: records[-1].offset + 1 if records else 0 for of, records in broker.all.items()}
    assert (len(broker.queue), broker.queue.bytes) == (0, 0)
    for partition, records in broker.all.items():
        for tenant in "abc":
            own = [each.offset for each in records if tenant_of(each) == tenant]
            first = dict.fromkeys(
                each.offset for each in broker.handled if (each.partition, tenant_of(each)) == (partition, tenant)
            )
            assert list(first) == own


class Waits:
    """Counts what is taken of each tenant, and checks how long each record has waited for those of others."""

    def __init__(self, queue: FairQueue, quantum: int) -> None:
        self.queue = queue
        self.quantum = quantum
        self.taken, self.waiting = Counter[str](), Counter[str]()
        # By offset: what was taken, and how many of its own tenant waited, when a record came.
        self.came: dict[int, tuple[Counter[str], int]] = {}

    def put(self, tenants: Sequence[str]) -> None:
        for tenant in tenants:
            self.came[len(self.came)] = self.taken.copy(), self.waiting[tenant]
            self.queue.put([record(len(self.came) - 1, tenant)])
            self.waiting[tenant] += 1

    def take(self) -> bool:
        records = self.queue.take().records
        for each in records:
            # What is in a batch with others waits for none of them.
            self._check(each)
        found = Counter(map(tenant_of, records))
        self.taken += found
        self.waiting -= found
        return bool(records)

    def _check(self, taken: Record) -> None:
        before, own = self.came[taken.offset]
        rounds = own // self.quantum + 1
        for tenant, number in (self.taken - before).items():
            assert tenant == tenant_of(taken) or number <= self.quantum * rounds


@given(
    arriving=st.lists(st.lists(st.sampled_from("aaaaabcd"), min_size=1, max_size=40), min_size=1, max_size=8),
    quantum=st.integers(1, 5),
    quanta=st.integers(1, 4),
)
def test_no_tenant_waits_for_more_than_a_quantum_of_each_other_one_for_each_of_its_own(
    arriving: list[list[str]], quantum: int, quanta: int
) -> None:
    waits = Waits(a_queue(limit=quantum * quanta, quantum=quantum), quantum)
    # From the second batch on none is of one tenant alone.
    waits.put("a" * quantum + "b")
    for tenants in arriving:
        waits.take()
        waits.put(tenants)
    while waits.take():
        pass
    assert waits.waiting.total() == 0
