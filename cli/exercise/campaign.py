"""One failure after the other, while probes are sent."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cli.demo.steps import RestClient
from cli.exercise.flow import ScenarioFlow
from cli.exercise.probes import POLL_S, PROBE_RULE, TIMEOUT_S, AcceptedDeliveries, Probes, probing, until_done
from cli.exercise.report import ExerciseRow, FailedPart, exercise_rows

# So that a failure shows its own effects only.
_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFailure:
    """A part that failed: since when its recovery counts, and what became of calls meanwhile, if any were made."""

    time: float
    calls: int = 0
    failed_calls: int = 0


class Target(Protocol):
    """A running system, parts of which can fail."""

    edges: Sequence[RestClient]
    sinks: RestClient

    def fail(self, part: str) -> InjectedFailure:
        """Let a part fail."""
        ...

    def restore(self) -> None:
        """Bring back what failed last, unless it comes back by itself."""
        ...


def run_campaign(target: Target, parts: Sequence[str], report: Callable[[str], None]) -> list[ExerciseRow]:
    """Let each part fail, wait for alerts, restore all but the last, and return what came of each failure."""
    until_done(lambda: target.edges[0].post("/api/alert-rules", PROBE_RULE))
    deliveries = AcceptedDeliveries(target.sinks)
    with probing(target.edges) as probes:
        _await_recovery(deliveries, probes, time.monotonic())
        failures = []
        for number, part in enumerate(parts, 1):
            failures.append(_fail(target, part, number, probes, deliveries, report))
            # Nothing fails after the last one.
            if number < len(parts):
                target.restore()
    accepted = {probe.number for probe in probes.all() if probe.accepted}
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and not accepted <= deliveries.of_probes().keys():
        time.sleep(POLL_S)
    # What is told twice comes a little later.
    time.sleep(_PAUSE_S)
    return exercise_rows(failures, probes.all(), deliveries.of_probes())


def _fail(
    target: Target,
    part: str,
    number: int,
    probes: Probes,
    deliveries: AcceptedDeliveries,
    report: Callable[[str], None],
) -> FailedPart:
    flow = ScenarioFlow(target.edges, number)
    flow.begin()
    time.sleep(_PAUSE_S)
    flow.go_on()
    failed = target.fail(part)
    recovery = _await_recovery(deliveries, probes, failed.time)
    report(f"{part}: alerts flow again after {recovery:.1f} s" if recovery is not None else f"{part}: no alerts")
    flow.finish()
    missing, unexpected = _await_scenario(target, flow, deliveries)
    for text in (*missing, *unexpected):
        report(f"{part}: {'missing' if text in missing else 'not expected'}: {text}")
    return FailedPart(
        part=part,
        time=failed.time,
        recovery=recovery,
        calls=failed.calls,
        failed_calls=failed.failed_calls,
        missing=len(missing),
        unexpected=len(unexpected),
    )


def _await_scenario(target: Target, flow: ScenarioFlow, deliveries: AcceptedDeliveries) -> tuple[list[str], list[str]]:
    """Wait until the scenario's alerts are delivered, and a little longer; return what is missing and what is more."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and _differences(target, flow, deliveries)[0]:
        time.sleep(POLL_S)
    time.sleep(_PAUSE_S)
    return _differences(target, flow, deliveries)


def _differences(target: Target, flow: ScenarioFlow, deliveries: AcceptedDeliveries) -> tuple[list[str], list[str]]:
    edges = itertools.cycle(target.edges)
    alerts = until_done(lambda: next(edges).get("/api/alerts?pageSize=500&severities=HIGH&severities=CRITICAL"))
    return flow.differences(alerts["alerts"], deliveries.others())


def _await_recovery(deliveries: AcceptedDeliveries, probes: Probes, since: float) -> float | None:
    """Return after how many seconds a probe that was sent since then has reached the channel."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        newer = {probe.number for probe in probes.all() if probe.sent >= since}
        if newer & deliveries.of_probes().keys():
            return time.monotonic() - since
        time.sleep(POLL_S)
    return None
