"""tocsin load: send events at a steady rate, and say at the end whether everything went well.

Theory of operation. Calls start at fixed times, whether or not earlier ones have been answered (an open loop), and a
call's latency counts from the time at which it should have started. So a server that stands still for a second shows in
every call of that second, and not in one. What the evaluator did is read from its metrics, which only a system on this
machine has.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Annotated

import grpc
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ExitCode, ServerOption, default_server, list_rows, open_channel
from cli.demo.steps import count_evaluated
from cli.output import OutputFormat, OutputOption, print_data, print_table, stdout
from services.contract.timestamps import timestamp_of
from stack.local_system import default_folder
from stack.wiring import Wiring, stored_wiring
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

_PREFIX = "load-"
_CALLS_PER_SECOND = 20
_MAX_BATCH = 500
_MAX_CALLS = 32
_EVALUATED_TIMEOUT_S = 30.0
_ALERT_WAIT_S = 2.0
_POLL_S = 0.2
_LEVELS = {"errors": LogEvent.ERROR, "warnings": LogEvent.WARN, "slow": LogEvent.INFO, "failed": LogEvent.ERROR}
_SUCCESSES = (200, 200, 200, 201, 204, 301, 404)
_FAILURES = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What is sent: so many events a second, for so many seconds, of so many services, by this mix in percent."""

    rate: int
    seconds: int
    services: int
    mix: Mapping[str, float]

    @property
    def events(self) -> int:
        """Return how many events there are in all."""
        return self.rate * self.seconds

    @property
    def calls_per_second(self) -> int:
        """Return how many calls start in a second: more where a call would have too many events."""
        return max(min(_CALLS_PER_SECOND, self.rate), -(-self.rate // _MAX_BATCH))

    def batches(self) -> Iterator[tuple[float, int]]:
        """Yield when each call starts, in seconds from the beginning, and its number of events; all are sent."""
        calls = self.calls_per_second * self.seconds
        for call in range(calls):
            yield call / self.calls_per_second, self.events * (call + 1) // calls - self.events * call // calls


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What became of the events. Latencies are in seconds; what is not known is None."""

    sent: int = 0
    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    evaluated: int | None = None
    alerts: int | None = None

    def add(self, latency: float, accepted: int, code: str) -> None:
        """Count the answer to a call: how many events it took, or the code with which it failed."""
        self.latencies.append(latency)
        self.accepted += accepted
        if code:
            self.errors[code] += 1

    @property
    def problems(self) -> list[str]:
        """Return what did not go well, in words."""
        found = [f"{count:,} calls failed: {code}" for code, count in sorted(self.errors.items())]
        if self.accepted < self.sent:
            found.append(f"{self.sent - self.accepted:,} of {self.sent:,} events were not accepted")
        if self.evaluated is not None and self.evaluated < self.accepted:
            found.append(f"{self.accepted - self.evaluated:,} accepted events were not evaluated in time")
        return found


def load(
    *,
    rate: Annotated[int, typer.Option(min=1, max=200_000, help="Events a second.")] = 1000,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="For how long.")] = 60,
    services: Annotated[int, typer.Option(min=1, max=1000, help="Of how many services, load-1 and so on.")] = 5,
    mix: Annotated[
        str,
        typer.Option(
            help="Shares in percent: errors, warnings, slow (2 to 10 s), failed (a status from 500); the rest is well."
        ),
    ] = "errors=5,warnings=10,slow=3,failed=2",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Send random events at a steady rate, show progress, and say at the end what became of them.

    Levels, status codes and response times are random. Exit code 0 when every event was accepted and, as far as this
    machine can tell, evaluated; 1 when not.
    """
    plan = LoadPlan(rate=rate, seconds=seconds, services=services, mix=parse_mix(mix))
    with open_channel(server, output) as channel:
        began = datetime.now(UTC)
        here = stored_wiring(default_folder()) if server == default_server() else None
        before = _count_evaluated(here)
        result = _send(plan, channel, is_hidden=output.is_data)
        result.evaluated = _await_evaluated(here, before, result.accepted)
        result.alerts = _await_alerts(channel, began)
    _print(plan, result, output)
    if result.problems:
        raise typer.Exit(ExitCode.REFUSED)


def parse_mix(text: str) -> dict[str, float]:
    """Return the share of each kind of event in percent. Raises typer.BadParameter."""
    mix: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, share = part.partition("=")
        if name not in _LEVELS:
            raise typer.BadParameter(f'found "{name}", expected some of {", ".join(_LEVELS)}', param_hint="--mix")
        try:
            mix[name] = float(share)
        except ValueError:
            raise typer.BadParameter(f'{name}: found "{share}", expected percent', param_hint="--mix") from None
    if not all(share >= 0 for share in mix.values()) or not sum(mix.values()) <= 100:  # noqa: PLR2004 - percent
        raise typer.BadParameter("expected shares from 0 to 100 percent in all", param_hint="--mix")
    return mix


def random_event(plan: LoadPlan, random_source: random.Random) -> LogEvent:
    """Return an event of a random service and of a kind that the mix allows."""
    kinds = [*plan.mix, "well"]
    shares = [*plan.mix.values(), 100 - sum(plan.mix.values())]
    (kind,) = random_source.choices(kinds, shares)
    slow = random_source.uniform(2000, 10_000) if kind == "slow" else random_source.lognormvariate(3.5, 0.8)
    return LogEvent(
        service=f"{_PREFIX}{random_source.randint(1, plan.services)}",
        level=_LEVELS.get(kind, random_source.choice((LogEvent.INFO, LogEvent.INFO, LogEvent.DEBUG))),
        message=f"{kind} request {random_source.getrandbits(32):08x}",
        status_code=random_source.choice(_FAILURES if kind == "failed" else _SUCCESSES),
        response_time=slow,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)] if ordered else 0.0


def _send(plan: LoadPlan, channel: grpc.Channel, *, is_hidden: bool) -> LoadResult:
    stub = LogIngestServiceStub(channel)
    result, source = LoadResult(), random.Random()  # noqa: S311 - no secret
    started = time.monotonic()

    def call(due: float, request: IngestBatchRequest) -> None:
        try:
            accepted, code = stub.IngestBatch(request, timeout=RPC_TIMEOUT_S).accepted_count, ""
        except grpc.RpcError as error:
            accepted, code = 0, error.code().name
        answers.put((time.monotonic() - started - due, accepted, code))

    answers: SimpleQueue[tuple[float, int, str]] = SimpleQueue()
    with _progress_bar(is_hidden=is_hidden) as bar:
        task = bar.add_task("sending", total=plan.events, accepted=0, failed=0)

        def take_answers() -> None:
            while not answers.empty():
                result.add(*answers.get())
            bar.update(task, completed=result.sent, accepted=result.accepted, failed=result.errors.total())

        with ThreadPoolExecutor(_MAX_CALLS) as pool:
            for due, count in plan.batches():
                request = IngestBatchRequest(events=[random_event(plan, source) for _ in range(count)])
                time.sleep(max(0.0, due - (time.monotonic() - started)))
                result.sent += count
                pool.submit(call, due, request)
                take_answers()
        take_answers()
    return result


def _progress_bar(*, is_hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} events, {task.fields[accepted]:,} accepted"),
        TextColumn("{task.fields[failed]:,} calls failed"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stdout,
        disable=is_hidden,
        transient=True,
    )


def _count_evaluated(here: Wiring | None) -> int | None:
    """Return how many events the evaluator of this machine has evaluated; None where that is not known."""
    if here is None:
        return None
    try:
        return count_evaluated(here.ports.evaluator_admin, here.client_context())
    except OSError:
        return None


def _await_evaluated(here: Wiring | None, before: int | None, accepted: int) -> int | None:
    """Return how many of the accepted events were evaluated, once all are or time is over. Others' events count too."""
    deadline = time.monotonic() + _EVALUATED_TIMEOUT_S
    while True:
        now = _count_evaluated(here)
        if now is None or before is None:
            return None
        if now - before >= accepted or time.monotonic() > deadline:
            return min(now - before, accepted)
        time.sleep(_POLL_S)


def _await_alerts(channel: grpc.Channel, began: datetime) -> int | None:
    """Return how many alerts of the services have fired since then, two seconds later; None where nobody says."""
    time.sleep(_ALERT_WAIT_S)
    request = ListAlertsRequest(fired_after=timestamp_of(began))
    try:
        alerts = list_rows(AlertServiceStub(channel).ListAlerts, request, lambda page: page.alerts)
    except grpc.RpcError:
        return None
    return len([alert for alert in alerts if alert.resource.startswith(_PREFIX)])


def _print(plan: LoadPlan, result: LoadResult, output: OutputFormat) -> None:
    latencies = {f"p{share:g}": percentile(result.latencies, share / 100) for share in (50, 90, 99)}
    latencies["max"] = max(result.latencies, default=0.0)
    milliseconds = {name: round(1000 * latency, 1) for name, latency in latencies.items()}
    verdict = "failed" if result.problems else "passed"
    if output.is_data:
        document = {
            "verdict": verdict,
            "problems": result.problems,
            "rate": plan.rate,
            "seconds": plan.seconds,
            "sent": result.sent,
            "accepted": result.accepted,
            "evaluated": result.evaluated,
            "alerts": result.alerts,
            "errors": dict(result.errors),
            "latencyMs": milliseconds,
        }
        print_data(document, output)
        return
    rows = [
        ["Sent", f"{result.sent:,} events in {len(result.latencies):,} calls, {plan.rate:,} a second"],
        ["Accepted", f"{result.accepted:,}"],
        ["Evaluated", "not known" if result.evaluated is None else f"{result.evaluated:,}"],
        ["Alerts", "not known" if result.alerts is None else f"{result.alerts:,}"],
        ["Answers", ", ".join(f"{name} {value:,.1f} ms" for name, value in milliseconds.items())],
        ["Errors", ", ".join(f"{code} {count:,}" for code, count in result.errors.items()) or "none"],
    ]
    print_table(["Load", "Result"], rows)
    for problem in result.problems:
        stdout.print(problem, style="red", markup=False)
    stdout.print(verdict, style="bold red" if result.problems else "bold green")
