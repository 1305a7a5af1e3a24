"""Sampled traces: the same ones everywhere, bounded, and reported to the manager."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA
from services.evaluator.adapters.trace_reports import TraceReportClient, TraceReportsUnavailable
from services.evaluator.core.match.events import EventBatch, EventColumns, LogRecord
from services.evaluator.core.match.traces import Sampled, SampledTraces, TraceMember, sample_traces
from tests.fakes.edge import Edge

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
ALL = 2**64 - 1


def trace_id(number: int) -> str:
    return f"{number:032x}"


def event(trace: str, service: str = "web", second: int | None = 0) -> dict[str, Any]:
    return {
        "record_id": "",
        "event_time": None if second is None else NOW + timedelta(seconds=second),
        "service": service,
        "level": 4,
        "message": "m",
        "host": "",
        "trace_id": trace,
        "attributes": [],
    }


def fetched(batch: pa.RecordBatch, *tenants: str) -> EventBatch:
    """Return events in one record, or each event in a record of a tenant."""
    lengths = np.ones(len(tenants), np.int64) if tenants else np.array([batch.num_rows])
    records = (LogRecord(partition=0, offset=0, arrival_ns=0, tenant=tenant) for tenant in tenants or ("default",))
    return EventBatch(records=tuple(records), lengths=lengths, columns=EventColumns(batch))


def columns(*events: dict[str, Any]) -> EventBatch:
    return fetched(pa.RecordBatch.from_pylist(list(events), schema=EVENT_SCHEMA))


def seen(found: Sampled | Sequence[TraceMember]) -> dict[tuple[str, str], int]:
    """Return for each service in a trace the second of its first event."""
    if isinstance(found, Mapping):
        return {key[:2]: (first_ns - NOW_NS) // 10**9 for key, (first_ns, _) in found.items()}
    return {(each.trace_id, each.service): (each.first_ns - NOW_NS) // 10**9 for each in found}


def priorities(found: Sampled) -> list[int]:
    return sorted(priority for _, priority in found.values())


def reported(found: Sampled) -> Sequence[TraceMember]:
    """Return what a report has of this."""
    sampled = SampledTraces(1)
    sampled.add(found)
    return sampled.take()


def test_each_service_of_a_trace_is_sampled_with_its_first_time() -> None:
    first, second = trace_id(1), trace_id(0xABC)
    found = sample_traces(
        columns(
            event(first, second=5),
            event(""),
            event(second, "pay", 3),
            event(first, second=2),
            event(first, "pay", 2),
            event(first, second=9),
        ),
        ALL,
    )
    assert seen(found) == {(first, "web"): 2, (first, "pay"): 2, (second, "pay"): 3}
    assert len(set(priorities(found))) == 2


def test_what_names_no_trace_or_no_time_is_left_out() -> None:
    assert sample_traces(columns(), ALL) == {}
    assert sample_traces(columns(event(""), event("")), ALL) == {}
    assert sample_traces(columns(event("short")), ALL) == {}
    assert set(sample_traces(columns(event("short"), event(trace_id(1)), event("x" * 33)), ALL)) == {
        (trace_id(1), "web", "default")
    }
    assert sample_traces(columns(event(trace_id(1), second=None)), ALL) == {}
    assert sample_traces(columns(event(trace_id(1))), -1) == {}
    empty = pa.array([], pa.string())
    assert sample_traces(fetched(pa.RecordBatch.from_arrays([empty], ["trace_id"])), ALL) == {}


def test_a_part_of_the_columns_is_read_at_its_place() -> None:
    whole = columns(*(event(trace_id(n), second=n) for n in range(9)))
    nothing = fetched(columns(event(trace_id(1)), event(""), event("")).columns.batch.slice(1))
    assert sample_traces(nothing, ALL) == {}
    part = fetched(whole.columns.batch.slice(3, 4))
    assert seen(sample_traces(part, ALL)) == {(trace_id(n), "web"): n for n in range(3, 7)}


def test_one_in_so_many_traces_is_sampled_whatever_makes_the_ids() -> None:
    numbers = np.random.default_rng(1).integers(0, 2**63, 20_000).tolist()
    for ids in (range(20_000), range(0, 20_000 << 16, 1 << 16), [number << 40 | number for number in numbers]):
        found = sample_traces(columns(*(event(trace_id(n)) for n in ids)), SampledTraces(64).max_priority)
        assert 250 <= len(found) <= 380


def test_a_report_is_bounded_by_the_lowest_priorities_until_it_is_sent() -> None:
    sampled = SampledTraces(1, max_members=4)
    assert sampled.max_priority == ALL
    found = sample_traces(columns(*(event(trace_id(n), name) for n in range(9) for name in ("a", "b"))), ALL)
    in_order = sorted(set(priorities(found)))
    few = {key: each for key, each in found.items() if each[1] <= in_order[3]}
    sampled.add(few)
    # Twice as many are kept until it takes too much.
    assert sampled.max_priority == ALL
    sampled.add(found)
    assert sampled.max_priority == in_order[2] - 1
    lowest = {key: each for key, each in found.items() if each[1] < in_order[2]}
    assert seen(sampled.take()) == seen(lowest)
    # The next report begins at twice that, and a later one at all of them again.
    assert sampled.max_priority == min(ALL, 2 * (in_order[2] - 1))
    assert [sampled.take() for _ in range(64)] == [()] * 64
    assert sampled.max_priority == ALL
    sampled.add(few)
    assert seen(sampled.take()) == seen(lowest)


def test_a_report_leaves_out_what_is_no_id_of_a_trace() -> None:
    found = sample_traces(columns(event("G" * 32), event(trace_id(1))), ALL)
    assert len(found) == 2
    assert seen(reported(found)) == {(trace_id(1), "web"): 0}


def test_what_comes_later_or_again_changes_only_an_earlier_time() -> None:
    sampled = SampledTraces(1)
    for second in (5, 7, 3, 3):
        sampled.add(sample_traces(columns(event(trace_id(1), second=second)), ALL))
    assert seen(sampled.take()) == {(trace_id(1), "web"): 3}


def test_traces_are_sampled_up_to_a_priority() -> None:
    events = columns(*(event(trace_id(n)) for n in range(9)))
    in_order = priorities(sample_traces(events, ALL))
    for number, priority in enumerate(in_order):
        assert priorities(sample_traces(events, priority)) == in_order[: number + 1]


def test_a_trace_of_one_tenant_is_not_another_ones() -> None:
    batch = columns(event(trace_id(1), second=5), event(trace_id(1), second=3), event(trace_id(1), second=4))
    sampled = SampledTraces(1)
    sampled.add(sample_traces(fetched(batch.columns.batch, "acme", "default", "acme"), ALL))
    assert {each.tenant: each.first_ns - NOW_NS for each in sampled.take()} == {
        "acme": 4 * 10**9,
        "default": 3 * 10**9,
    }


def test_nothing_is_sampled_where_it_is_switched_off() -> None:
    sampled = SampledTraces(0)
    assert sample_traces(columns(event(trace_id(1))), sampled.max_priority) == {}
    assert sampled.take() == ()


numbers = st.integers(0, 30)
batches = st.lists(st.lists(st.tuples(numbers, st.sampled_from("abc"), st.integers(0, 9)), max_size=12), max_size=6)


@given(batches, st.integers(1, 12), st.integers(1, 6))
def test_what_is_kept_does_not_depend_on_how_events_come(
    fetches: list[list[tuple[int, str, int]]], limit: int, one_in: int
) -> None:
    """Of all sampled members those of the lowest priorities are kept, whole traces, as many as fit."""
    sampled = SampledTraces(one_in, max_members=limit)
    base = sampled.max_priority
    for fetch in fetches:
        events = columns(*(event(trace_id(number), service, second) for number, service, second in fetch))
        sampled.add(sample_traces(events, sampled.max_priority))
    flat = [each for fetch in fetches for each in fetch]
    everything = sample_traces(
        columns(*(event(trace_id(number), service, second) for number, service, second in flat)), base
    )
    kept = sampled.take()
    border = priorities(everything)[limit] if len(everything) > limit else base + 1
    assert seen(kept) == seen({key: each for key, each in everything.items() if each[1] < border})


async def test_a_report_reaches_the_manager_and_an_empty_one_is_not_sent() -> None:
    edge, server = Edge(), grpc.aio.server()
    edge.mount(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    members = reported(sample_traces(columns(event(trace_id(1), "web", 1), event(trace_id(1), "pay", 2)), ALL))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as mesh:
        client = TraceReportClient(mesh)
        await client.send(members)
        await client.send(())
        await server.stop(0)
        with pytest.raises(TraceReportsUnavailable):
            await client.send(members)
    rows = edge.store.tables.learned.sightings.values()
    assert {(each.service, each.first_time) for each, _ in rows} == {
        ("web", NOW + timedelta(seconds=1)),
        ("pay", NOW + timedelta(seconds=2)),
    }
