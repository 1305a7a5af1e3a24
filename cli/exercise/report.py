"""What came of each failure: how long until alerts flowed again, and which probes were lost or doubled."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cli.output import OutputFormat, print_data, print_table, stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One event; times are of the monotonic clock, in seconds, and the second is None until it is accepted."""

    number: int
    sent: float
    accepted: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPart:
    """A failure: of which part, when, and after how many seconds alerts flowed again; None: they did not in time.

    `calls` and `failed_calls` are of clients that called all the time; without any, no call was made. `missing` and
    `unexpected` are of the scenario that ran during the failure: alerts and deliveries.
    """

    part: str
    time: float
    recovery: float | None
    calls: int = 0
    failed_calls: int = 0
    missing: int = 0
    unexpected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExerciseRow:
    """What came of one failure, or, with an empty part, of the time before the first one."""

    part: str
    recovery: float | None
    probes: int
    lost: int
    doubled: int
    calls: int = 0
    failed_calls: int = 0

    @property
    def is_well(self) -> bool:
        """Return whether alerts flowed again, no call failed, and nothing was lost or doubled."""
        has_recovered = self.recovery is not None or not self.part
        return has_recovered and not self.lost and not self.doubled and not self.failed_calls


def exercise_rows(
    failures: Sequence[FailedPart], probes: Sequence[Probe], deliveries: Mapping[int, int]
) -> list[ExerciseRow]:
    """Return what came of each failure, the time before the first one first.

    `deliveries` has by the number of each probe how often the channel accepted it. A probe that ingest never accepted
    counts nowhere: whoever sent it knows.
    """
    starts = [float("-inf"), *(failure.time for failure in failures), float("inf")]
    rows = []
    for (start, end), failure in zip(itertools.pairwise(starts), [None, *failures], strict=True):
        counts = [deliveries.get(probe.number, 0) for probe in probes if probe.accepted and start <= probe.sent < end]
        rows.append(
            ExerciseRow(
                part=failure.part if failure else "",
                recovery=failure.recovery if failure else None,
                probes=len(counts),
                lost=sum(not count for count in counts) + (failure.missing if failure else 0),
                doubled=sum(count > 1 for count in counts) + (failure.unexpected if failure else 0),
                calls=failure.calls if failure else 0,
                failed_calls=failure.failed_calls if failure else 0,
            )
        )
    return rows


def print_rows(rows: Sequence[ExerciseRow], output: OutputFormat) -> None:
    """Print a row for each failure, and the verdict."""
    if output.is_data:
        print_data([asdict(row) | {"is_well": row.is_well} for row in rows], output)
        return
    print_table(
        ["Failed", "Alerts again after", "Probes", "Lost", "Doubled", "Calls", "Failed calls"],
        [
            [
                row.part or "(before)",
                "-" if not row.part else "never" if row.recovery is None else f"{row.recovery:.1f} s",
                f"{row.probes:,}",
                f"{row.lost:,}",
                f"{row.doubled:,}",
                f"{row.calls:,}" if row.calls else "-",
                f"{row.failed_calls:,}" if row.calls else "-",
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
