"""Records of the current blocks are kept within a bound, and given back where none of them is missing."""

from services.chassis.kafka import Record
from services.evaluator.core.match.blocks import SourcePartition
from services.evaluator.core.match.events import LogRecord
from services.evaluator.core.records import BLOCK_RECORDS
from services.evaluator.worker.kept_records import KeptRecords

TENANTS = frozenset({"acme"})


def record(offset: int, partition: int, size: int) -> Record:
    return Record("log-events", partition, offset, None, bytes(size), (), 0)


class Kept:
    """Sources, and what is kept of their records, of ten bytes each."""

    def __init__(self, max_bytes: int = 100) -> None:
        self.records = KeptRecords(max_bytes)
        self.sources: dict[int, SourcePartition] = {}

    def add(self, first: int, tenants: str, partition: int = 0) -> None:
        """Take records of tenants a (acme) and b from this offset on."""
        source = self.sources.setdefault(partition, SourcePartition.at(partition, 0))
        of_tenants = {"a": "acme", "b": "other"}
        for offset, tenant in enumerate(tenants, start=first):
            source.add_record(offset, 0)
            read = LogRecord(partition=partition, offset=offset, arrival_ns=0, tenant=of_tenants[tenant])
            self.records.add([record(offset, partition, 10)], [read])

    def offsets(self) -> list[int] | None:
        found = self.records.of_tenants(TENANTS, self.sources)
        return None if found is None else [each.offset for each in found]


def test_the_records_of_the_tenants_are_given_back() -> None:
    kept = Kept()
    kept.add(0, "aba")
    kept.add(0, "ba", partition=1)
    assert kept.offsets() == [0, 2, 1]


def test_a_source_of_which_nothing_has_come_lacks_nothing() -> None:
    kept = Kept()
    kept.add(0, "a")
    kept.sources[1] = SourcePartition.at(1, 7)
    assert kept.offsets() == [0]


def test_beyond_the_bound_the_partition_with_most_is_forgotten_until_its_next_block() -> None:
    kept = Kept(max_bytes=40)
    kept.add(0, "a", partition=1)
    kept.add(0, "aaa")
    assert kept.offsets() == [0, 0, 1, 2]
    kept.add(3, "a")
    assert kept.offsets() is None
    kept.add(4, "a")
    assert kept.offsets() is None
    kept.sources[0] = SourcePartition.at(0, BLOCK_RECORDS)
    kept.add(BLOCK_RECORDS, "aa")
    kept.records.drop_before(0, BLOCK_RECORDS)
    assert kept.offsets() == [0, BLOCK_RECORDS, BLOCK_RECORDS + 1]


def test_what_is_before_the_current_block_takes_no_room() -> None:
    kept = Kept(max_bytes=40)
    kept.add(0, "aaaa")
    kept.sources[0] = SourcePartition.at(0, 3)
    kept.records.drop_before(0, 3)
    kept.add(4, "baa")
    assert kept.sources[0].position == 7
    assert kept.offsets() == [3, 5, 6]
    kept.records.drop_before(1, 3)
    kept.records.drop_before(0, 7)
    kept.records.drop_before(0, 8)
    assert kept.offsets() == []


def test_what_is_forgotten_takes_no_room() -> None:
    kept = Kept(max_bytes=40)
    for _ in range(3):
        kept.sources.clear()
        kept.add(0, "aaaa")
        assert kept.offsets() == [0, 1, 2, 3]
        kept.records.forget(0)
        kept.records.forget(1)
        assert kept.offsets() is None
    kept.records.clear()
    kept.sources.clear()
    kept.add(0, "aaaa")
    kept.records.clear()
    kept.sources.clear()
    kept.add(0, "aaaa")
    assert kept.offsets() == [0, 1, 2, 3]


def test_of_a_block_whose_rows_were_left_to_a_former_owner_nothing_is_given_back_until_it_is_beyond_them() -> None:
    kept = Kept()
    kept.sources[0] = SourcePartition.at(0, 0, sent_before=2)
    kept.add(0, "aa")
    assert kept.offsets() is None
    kept.add(2, "a")
    assert kept.offsets() == [0, 1, 2]
