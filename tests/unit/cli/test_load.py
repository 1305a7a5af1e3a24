"""tocsin load: what is sent when, and what is said of it."""

import json
import math
import random

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli import load
from cli.load import LoadPlan, LoadResult, parse_mix, percentile, random_event
from cli.main import app
from services.contract.event_columns import EVENT_SCHEMA
from tests.fakes.ingest_server import IngestServer
from tocsin.logs.v1.log_event_pb2 import LogEvent

PLAN = LoadPlan(rate=1000, seconds=2, services=3, mix={"errors": 5.0, "failed": 5.0})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_ALERT_WAIT_S", 0.0)


def run(ingest: IngestServer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["load", *arguments, "--server", ingest.address])


@given(rate=st.integers(1, 200_000), seconds=st.integers(1, 5))
def test_a_plan_sends_each_event_once_in_steady_calls_of_an_allowed_size(*, rate: int, seconds: int) -> None:
    plan = LoadPlan(rate=rate, seconds=seconds, services=1, mix={})
    batches = list(plan.batches())
    assert sum(count for _, count in batches) == rate * seconds
    assert all(1 <= count <= 500 for _, count in batches)
    starts = [start for start, _ in batches]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] < seconds


@given(st.lists(st.floats(0, 100)), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    if not values:
        assert found == 0
        return
    assert found in values
    assert sum(value <= found for value in values) >= math.floor(share * len(values))
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_the_percentiles_of_a_hundred_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99)] == [50, 90, 99]


def test_the_mix_decides_levels_and_status_codes() -> None:
    source = random.Random(7)  # noqa: S311 - no secret
    events = [random_event(PLAN, source) for _ in range(4000)]
    assert {event.service for event in events} == {"load-1", "load-2", "load-3"}
    errors = sum(event.level == LogEvent.ERROR for event in events)
    failed = sum(event.status_code >= 500 for event in events)
    assert 300 <= errors <= 500
    assert 130 <= failed <= 280
    assert {field.name for field in EVENT_SCHEMA} >= {field.name for field, _ in events[0].ListFields()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("crashes=5", 'found "crashes"', id="unknown kind"),
        pytest.param("errors=many", 'errors: found "many"', id="no number"),
        pytest.param("errors=60,slow=41", "0 to 100", id="more than all"),
        pytest.param("errors=-1", "0 to 100", id="less than none"),
        pytest.param("errors=nan", "0 to 100", id="not a number"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(text: str, problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        parse_mix(text)


def test_a_mix_may_have_blanks_and_be_empty() -> None:
    assert parse_mix("errors=1.5, slow=2,") == {"errors": 1.5, "slow": 2.0}
    assert parse_mix("") == {}


@pytest.mark.parametrize(
    ("result", "problems"),
    [
        pytest.param(LoadResult(sent=5, accepted=5, evaluated=5), [], id="all is well"),
        pytest.param(LoadResult(sent=5, accepted=5), [], id="nobody knows what was evaluated"),
        pytest.param(LoadResult(sent=5, accepted=3), ["2 of 5 events were not accepted"], id="not accepted"),
        pytest.param(
            LoadResult(sent=5, accepted=5, evaluated=1),
            ["4 accepted events were not evaluated in time"],
            id="not evaluated",
        ),
    ],
)
def test_what_did_not_go_well_is_said(result: LoadResult, problems: list[str]) -> None:
    assert result.problems == problems


def test_it_sends_all_and_says_that_it_passed(ingest: IngestServer) -> None:
    done = run(ingest, "--rate", "40", "--seconds", "1", "-o", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["verdict"], report["sent"], report["accepted"]) == ("passed", 40, 40)
    assert (report["evaluated"], report["alerts"]) == (None, None)
    assert len(ingest.events) == 40
    assert report["latencyMs"]["p50"] <= report["latencyMs"]["max"]


def test_it_fails_when_calls_fail(ingest: IngestServer) -> None:
    ingest.is_away = lambda _: True
    done = run(ingest, "--rate", "40", "--seconds", "1")
    assert done.exit_code == 1
    assert "calls failed: UNAVAILABLE" in done.output
    assert "40 of 40 events were not accepted" in done.output
    assert done.output.rstrip().endswith("failed")
