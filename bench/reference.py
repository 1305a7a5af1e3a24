"""The machine's speed during a measurement: three fixed pieces of work, timed before, between and after.

The speed of a shared machine drifts by a factor of two to three within hours, so a figure alone says little.
`python -m bench.reference` prints only this.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

# A run whose reference moves by more than this share is not one measurement.
MAX_DRIFT = 0.15
_REPEATS = 7
# Larger than the caches.
_BLOCK = bytes(range(256)) * 131_072
_TEXT = b"".join(b"2026-11-27 10:00:00.%03d INFO request %d took %d ms\n" % (n % 1000, n, n * 7) for n in range(8_000))


def _interpreter_loop() -> int:
    total = 0
    for number in range(400_000):
        total += number & 7
    return total


def _memory_copy() -> int:
    return sum(len(bytearray(_BLOCK)) for _ in range(2))


def _compression() -> int:
    return len(zlib.compress(_TEXT, 6))


WORKS: Mapping[str, Callable[[], int]] = {
    "interpreter loop": _interpreter_loop,
    "memory copy": _memory_copy,
    "compression": _compression,
}


def milliseconds(work: Callable[[], int]) -> float:
    """Return the shortest wall time of several runs, in milliseconds."""
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best * 1000


@dataclass(slots=True)
class Reference:
    """When the reference ran, each time with the milliseconds of every piece of work."""

    moments: list[tuple[str, dict[str, float]]] = field(default_factory=list)

    def run(self, moment: str) -> None:
        """Run the reference now; nothing may be under load."""
        self.moments.append((moment, {name: milliseconds(work) for name, work in WORKS.items()}))

    def drift(self) -> float:
        """Return the largest difference of a work's slowest and fastest run, as a share of the fastest."""
        return max(
            (max(times_ms) / min(times_ms) - 1 for name in WORKS if (times_ms := [ms[name] for _, ms in self.moments])),
            default=0.0,
        )

    def print(self, console: Console) -> None:
        """Print all moments, and a warning when the machine changed its speed in between."""
        table = Table("Reference, ms", *WORKS, title="The machine's speed meanwhile", title_justify="left")
        for moment, times in self.moments:
            table.add_row(moment, *(f"{times[name]:.2f}" for name in WORKS))
        console.print(table)
        drift = self.drift()
        if drift > MAX_DRIFT:
            console.print(
                f"The reference moved by {drift:.0%} (more than {MAX_DRIFT:.0%}): do not compare figures of this run "
                "that were taken at different times.",
                style="yellow",
                markup=False,
            )


def main() -> None:
    """Run the reference once and print it."""
    reference = Reference()
    reference.run("now")
    reference.print(Console(highlight=False))


if __name__ == "__main__":
    main()
