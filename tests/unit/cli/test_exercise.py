"""tocsin exercise: what is counted as lost, doubled and recovered."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.demo.steps import RestClient
from cli.exercise import replicated, single
from cli.exercise.probes import AcceptedDeliveries
from cli.exercise.report import ExerciseRow, FailedPart, Probe, exercise_rows, print_rows
from cli.main import app
from cli.output import OutputFormat
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
        pytest.param(
            ExerciseRow(part="rolling-restart", recovery=1.0, probes=9, lost=0, doubled=0, calls=9, failed_calls=1),
            False,
            id="a call failed",
        ),
    ],
)
def test_a_failure_ends_well_when_alerts_flow_again_and_none_is_lost_or_doubled(
    row: ExerciseRow, *, is_well: bool
) -> None:
    assert row.is_well is is_well


def test_calls_count_for_the_failure_during_which_they_were_made(capsys: pytest.CaptureFixture[str]) -> None:
    failure = FailedPart(part="rolling-restart", time=10.0, recovery=1.0, calls=2_000, failed_calls=3)
    before, during = exercise_rows([failure], probes(1, 11), {0: 1, 1: 1})
    assert (before.calls, during.calls, during.failed_calls) == (0, 2_000, 3)
    print_rows([before, during], OutputFormat.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines if "rolling" in line or "before" in line] == [
        ["-", "-"],
        ["2,000", "3"],
    ]


def test_what_is_missing_of_the_scenario_is_lost_and_what_is_more_is_doubled() -> None:
    failure = FailedPart(part="kafka", time=10.0, recovery=1.0, missing=2, unexpected=1)
    _, during = exercise_rows([failure], probes(11, 12), {0: 2})
    assert (during.lost, during.doubled) == (3, 2)


class Sinks(RestClient):
    """What the channels were sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def get(self, path: str) -> Any:
        self.asked.append(path)
        return {"deliveries": self.sent[int(path.rpartition("=")[2]) :], "next": len(self.sent)}


def delivery(service: str, kind: str = "FIRING", channel: str = "webhook") -> dict[str, Any]:
    body = {"incident": {"cause": {"service": service}}}
    return {"channel": channel, "kind": kind, "incident": "i", "body": body}


def test_the_channel_is_told_of_a_probe_when_the_incident_that_it_caused_fires() -> None:
    sinks = Sinks()
    deliveries = AcceptedDeliveries(sinks)
    others = [
        delivery("payment-service"),
        {"channel": "webhook", "kind": "FIRING", "incident": "", "body": {"alert": {}}},
        {"channel": "slack", "kind": "FIRING", "incident": "i", "body": {"text": "exercise-7"}},
    ]
    sinks.sent = [delivery("exercise-7"), *others]
    assert deliveries.of_probes() == {7: 1}
    sinks.sent += [delivery("exercise-7"), delivery("exercise-8"), delivery("exercise-9", kind="RESOLVED")]
    assert deliveries.of_probes() == {7: 2, 8: 1}
    assert deliveries.others() == others
    assert sinks.asked == [f"/deliveries?accepted=true&first={first}" for first in (0, 4, 7)]


def test_the_parts_of_a_replicated_system_are_others() -> None:
    done = CliRunner().invoke(app, ["exercise", "--replicated", "redis"])
    assert done.exit_code == 2
    assert 'found "redis"' in str(done.exception or done.output) + done.stderr


def test_the_replicated_system_stands_in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[Any] = []

    def start(folder: Path, *_: object, **how: object) -> None:
        started.append((folder, how))
        raise StartError("enough seen")

    monkeypatch.setattr(replicated, "replicated_system", start)
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path / "run"))
    done = CliRunner().invoke(app, ["exercise", "--replicated", "--secure", "redis-primary", "redis-node"])
    assert (done.exit_code, started) == (1, [(tmp_path / "run-exercise", {"is_secure": True})])


def test_certificates_are_for_a_replicated_system() -> None:
    done = CliRunner().invoke(app, ["exercise", "--secure", "redis"])
    assert done.exit_code == 2
    assert "expected --replicated beside it" in str(done.exception or done.output) + done.stderr


def test_an_unknown_part_is_refused() -> None:
    done = CliRunner().invoke(app, ["exercise", "zookeeper"])
    assert done.exit_code == 2
    assert 'found "zookeeper"' in str(done.exception or done.output) + done.stderr


def test_it_uses_a_folder_and_servers_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: dict[str, Any] = {}

    def start(*_: object, **how: object) -> None:
        started.update(how)
        raise StartError("enough seen")

    monkeypatch.setattr(single, "start_stack", start)
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path / "run"))
    done = CliRunner().invoke(app, ["exercise", "kafka"])
    assert done.exit_code == 1
    assert "enough seen" in done.output
    assert (started["external"], started["supervised"]) == ({}, True)
    assert started["folder"] == tmp_path / "run-exercise"
