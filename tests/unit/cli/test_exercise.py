"""tocsin exercise: what is counted as lost, doubled and recovered."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import exercise
from cli.exercise import ExerciseRow, FailedPart, Probe, exercise_rows
from cli.main import app
from stack.program import StartError

FAILURES = [FailedPart(part="kafka", time=10.0, recovery=4.0), FailedPart(part="redis", time=20.0, recovery=None)]


def probes(*times: float) -> list[Probe]:
    return [Probe(number=number, sent=sent, accepted=sent + 1) for number, sent in enumerate(times)]


def test_probes_count_for_the_failure_after_which_they_were_first_sent() -> None:
    rows = exercise_rows(FAILURES, probes(1, 9.9, 10, 19, 20, 99), {0: 1, 1: 1, 2: 1, 3: 2, 5: 1})
    assert rows == [
        ExerciseRow(part="", recovery=None, probes=2, lost=0, doubled=0),
        ExerciseRow(part="kafka", recovery=4.0, probes=2, lost=0, doubled=1),
        ExerciseRow(part="redis", recovery=None, probes=2, lost=1, doubled=0),
    ]
    assert [row.is_well for row in rows] == [True, False, False]


def test_a_probe_that_was_never_accepted_counts_nowhere() -> None:
    (row,) = exercise_rows([], [Probe(number=0, sent=1.0)], {})
    assert (row.probes, row.lost) == (0, 0)


@pytest.mark.parametrize(
    ("row", "is_well"),
    [
        pytest.param(ExerciseRow(part="kafka", recovery=1.0, probes=9, lost=0, doubled=0), True, id="all is well"),
        pytest.param(ExerciseRow(part="kafka", recovery=None, probes=9, lost=0, doubled=0), False, id="no alerts"),
        pytest.param(ExerciseRow(part="kafka", recovery=1.0, probes=9, lost=1, doubled=0), False, id="lost"),
        pytest.param(ExerciseRow(part="kafka", recovery=1.0, probes=9, lost=0, doubled=1), False, id="doubled"),
    ],
)
def test_a_failure_ends_well_when_alerts_flow_again_and_none_is_lost_or_doubled(
    row: ExerciseRow, *, is_well: bool
) -> None:
    assert row.is_well is is_well


def test_an_unknown_part_is_refused() -> None:
    done = CliRunner().invoke(app, ["exercise", "zookeeper"])
    assert done.exit_code == 2
    assert 'found "zookeeper"' in str(done.exception or done.output) + done.stderr


def test_it_uses_a_folder_and_servers_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: dict[str, Any] = {}

    def start(*_: object, **how: object) -> None:
        started.update(how)
        raise StartError("enough seen")

    monkeypatch.setattr(exercise, "start_stack", start)
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path / "run"))
    done = CliRunner().invoke(app, ["exercise", "kafka"])
    assert done.exit_code == 1
    assert "enough seen" in done.output
    assert (started["external"], started["supervised"]) == ({}, True)
    assert started["folder"] == tmp_path / "run-exercise"
