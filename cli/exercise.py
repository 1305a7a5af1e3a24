"""tocsin exercise: kill each part of a system under load, and say how long it took and what was lost or doubled.

Theory of operation. A probe is one event with a number of its own, which a rule turns into one alert, of which one
channel is told. Five probes a second are sent all the time, each again until it is accepted. A part has recovered when
a probe that was first sent after the failure has reached the channel. At the end every accepted probe must have one
alert and one delivery: none is lost, two are doubled. Probes count for the failure after which they were sent first.
"""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, TypeVar

import typer

from cli.client import ExitCode
from cli.demo.steps import RestClient, RestError
from cli.output import OutputFormat, OutputOption, print_data, print_table, print_to_stderr, stdout
from stack.console import STACK_ERRORS, print_step
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports
from stack.processes import Processes

PARTS = ("ingest", "evaluator", "manager", "notifier", "envoy", "redis", "postgres", "kafka", "channel")
_GROUP = "attributes.probe"
_RULE = {
    "name": "Exercise",
    "type": "CUSTOM",
    "filter": 'service == "exercise"',
    "condition": "count >= threshold",
    "threshold": 1,
    "groupBy": _GROUP,
    "windowMinutes": 1,
    "severity": "LOW",
}
# The default routes send LOW to it.
_CHANNEL = "webhook"
_PROBE_INTERVAL_S = 0.2
_RETRY_S = 0.1
_POLL_S = 0.1
_CHANNEL_AWAY_S = 3.0
_RECOVERY_TIMEOUT_S = 60.0
# So that a failure shows its own effects only.
_PAUSE_S = 2.0
_MAX_WAITING = 320
_Result = TypeVar("_Result")
_REST_ERRORS = (RestError, OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One event; times are of the monotonic clock, in seconds, and the second is None until it is accepted."""

    number: int
    sent: float
    accepted: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPart:
    """A failure: of which part, when, and after how many seconds alerts flowed again; None: they did not in time."""

    part: str
    time: float
    recovery: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExerciseRow:
    """What came of one failure, or, with an empty part, of the time before the first one."""

    part: str
    recovery: float | None
    probes: int
    lost: int
    doubled: int

    @property
    def is_well(self) -> bool:
        """Return whether alerts flowed again, and nothing was lost or doubled."""
        return (self.recovery is not None or not self.part) and not self.lost and not self.doubled


def exercise_rows(
    failures: Sequence[FailedPart], probes: Sequence[Probe], told: Mapping[int, int]
) -> list[ExerciseRow]:
    """Return what came of each failure, the time before the first one first.

    `told` has by the number of each probe how often the channel was told of it. A probe that was never accepted counts
    nowhere: whoever sent it knows.
    """
    starts = [float("-inf"), *(failure.time for failure in failures), float("inf")]
    rows = []
    for (start, end), failure in zip(itertools.pairwise(starts), [None, *failures], strict=True):
        counts = [told.get(probe.number, 0) for probe in probes if probe.accepted and start <= probe.sent < end]
        rows.append(
            ExerciseRow(
                part=failure.part if failure else "",
                recovery=failure.recovery if failure else None,
                probes=len(counts),
                lost=sum(not count for count in counts),
                doubled=sum(count > 1 for count in counts),
            )
        )
    return rows


def exercise(
    *,
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART]...", help=f"Some of: {', '.join(PARTS)}. Without any: all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each part fails.")] = 1,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Start a system of its own, kill its parts under load one after the other, and print what came of each.

    The channel is not killed: it answers 503 for three seconds. Exit code 1 when an alert was lost or told twice, or
    when alerts did not flow again within a minute.
    """
    chosen = parts or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            raise typer.BadParameter(f'found "{name}", expected some of {", ".join(PARTS)}', param_hint="PART")
    home = default_folder()
    folder = home.with_name(f"{home.name}-exercise")
    report: Callable[[str], None] = (lambda _: None) if output.is_data else print_step
    stop_stack(report, folder=folder, purge=True)
    try:
        wiring = start_stack(report, folder=folder, ports=Ports.free(), external={}, supervised=True)
        rows = _run(_System.of(folder, wiring.ports), [*chosen] * rounds, report)
    except (*_REST_ERRORS, *STACK_ERRORS) as error:
        print_to_stderr(str(error))
        raise typer.Exit(ExitCode.REFUSED) from None
    finally:
        stop_stack(report, folder=folder)
    _print(rows, output)
    if not all(row.is_well for row in rows):
        print_to_stderr(f"not as it should be; the logs are in {folder / 'logs'}")
        raise typer.Exit(ExitCode.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _System:
    """The system that is exercised."""

    processes: Processes
    edge: RestClient
    sinks: RestClient

    @classmethod
    def of(cls, folder: Any, ports: Ports) -> "_System":
        edge, sinks = (RestClient(f"127.0.0.1:{port}") for port in (ports.edge, ports.sinks))
        return cls(processes=Processes(folder), edge=edge, sinks=sinks)

    def told(self) -> Counter[int]:
        """Return how often the channel accepted that a probe's alert fires. Raises one of _REST_ERRORS."""
        taken = [
            delivery["body"]
            for delivery in self.sinks.get(f"/deliveries?accepted=true&channel={_CHANNEL}")["deliveries"]
            if delivery["kind"] == "FIRING"
        ]
        return Counter(int(body["alert"]["group"][_GROUP]) for body in taken if _GROUP in body["alert"]["group"])


def _run(system: _System, parts: Sequence[str], report: Callable[[str], None]) -> list[ExerciseRow]:
    system.edge.post("/api/alert-rules", _RULE)
    failures: list[FailedPart] = []
    with _probing(system.edge) as probes:
        _await_recovery(system, probes, time.monotonic())
        for part in parts:
            time.sleep(_PAUSE_S)
            began = _fail(system, part)
            failures.append(FailedPart(part=part, time=began, recovery=_await_recovery(system, probes, began)))
            recovery = failures[-1].recovery
            report(
                f"{part}: alerts flow again after {recovery:.1f} s" if recovery is not None else f"{part}: no alerts"
            )
    accepted = {probe.number for probe in probes.all() if probe.accepted}
    deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
    told = _told(system)
    while time.monotonic() < deadline and not accepted <= told.keys():
        time.sleep(_POLL_S)
        told = _told(system)
    # What is told twice comes a little later.
    time.sleep(_PAUSE_S)
    return exercise_rows(failures, probes.all(), _told(system))


def _fail(system: _System, part: str) -> float:
    """Let a part fail, and return from when its recovery counts."""
    if part != "channel":
        began = time.monotonic()
        system.processes.kill(part)
        return began
    system.sinks.put(f"/behaviour/{_CHANNEL}", {"status": 503})
    time.sleep(_CHANNEL_AWAY_S)
    system.sinks.delete(f"/behaviour/{_CHANNEL}")
    return time.monotonic()


def _await_recovery(system: _System, probes: "_Probes", since: float) -> float | None:
    """Return after how many seconds a probe that was sent since then has reached the channel."""
    deadline = since + _RECOVERY_TIMEOUT_S
    while time.monotonic() < deadline:
        newer = {probe.number for probe in probes.all() if probe.sent >= since}
        if newer & _told(system).keys():
            return time.monotonic() - since
        time.sleep(_POLL_S)
    return None


def _told(system: _System) -> Counter[int]:
    return _until_done(system.told)


def _until_done(call: Callable[[], _Result]) -> _Result:
    deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
    while True:
        try:
            return call()
        except _REST_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


class _Probes:
    """The probes so far, each sent by a thread of its own until it is accepted."""

    def __init__(self, edge: RestClient) -> None:
        self._edge = edge
        self._probes: dict[int, Probe] = {}
        self._stop = threading.Event()

    def all(self) -> list[Probe]:
        """Return all probes, in the order in which they were first sent."""
        return list(self._probes.values())

    def stop(self) -> None:
        """Send no further probe."""
        self._stop.set()

    def send(self, pool: ThreadPoolExecutor) -> None:
        """Send a probe at each interval, until stopped."""
        for number in itertools.count():
            self._probes[number] = Probe(number=number, sent=time.monotonic())
            pool.submit(self._send_one, number)
            if self._stop.wait(_PROBE_INTERVAL_S):
                return

    def _send_one(self, number: int) -> None:
        event = {
            "service": "exercise",
            "level": "ERROR",
            "message": f"probe {number}",
            "attributes": {"probe": str(number)},
        }
        deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                # Without a time of its own: one that is sent again is as new as ever.
                self._edge.post("/api/logs", event)
            except _REST_ERRORS:
                time.sleep(_RETRY_S)
            else:
                self._probes[number] = replace(self._probes[number], accepted=time.monotonic())
                return


@contextmanager
def _probing(edge: RestClient) -> Iterator[_Probes]:
    """Send probes during the block; at its end wait until each is accepted, or has been tried for a minute."""
    probes = _Probes(edge)
    with ThreadPoolExecutor(max_workers=_MAX_WAITING) as pool:
        sender = threading.Thread(target=probes.send, args=(pool,))
        sender.start()
        try:
            yield probes
        finally:
            probes.stop()
            sender.join()


def _print(rows: Sequence[ExerciseRow], output: OutputFormat) -> None:
    if output.is_data:
        print_data([asdict(row) | {"is_well": row.is_well} for row in rows], output)
        return
    print_table(
        ["Failed", "Alerts again after", "Probes", "Lost", "Doubled"],
        [
            [
                row.part or "(before)",
                "-" if not row.part else "never" if row.recovery is None else f"{row.recovery:.1f} s",
                f"{row.probes:,}",
                f"{row.lost:,}",
                f"{row.doubled:,}",
            ]
            for row in rows
        ],
    )
    recoveries = [row.recovery for row in rows if row.recovery is not None]
    worst = f", the longest gap {max(recoveries):.1f} s" if recoveries else ""
    is_well = all(row.is_well for row in rows)
    stdout.print(
        f"{'Nothing' if is_well else 'Something was'} lost or doubled{worst}.", style="green" if is_well else "red"
    )
