"""Ingest: what waits together, and for how long."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.ingest.core.batching import BatchStep
from services.ingest.worker.linger_queue import LingerQueue

_FLUSH_CPU_S = 0.25


@dataclass(frozen=True, slots=True)
class Waiting:
    """A caller that waits."""

    outcome: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Asked:
    """Says that nobody waits, and remembers what it was asked."""

    def __init__(self) -> None:
        self.questions: list[tuple[float, float]] = []

    def __call__(self, *, flush_cpu_s: float, since_flush_s: float) -> float:
        self.questions.append((flush_cpu_s, since_flush_s))
        return 0.0


async def test_how_long_one_waits_follows_from_the_cpu_and_the_end_of_the_last_flush() -> None:
    cpu, asked, flushed = 0.0, Asked(), asyncio.Event()

    def publish(waiting: Sequence[Waiting]) -> None:
        nonlocal cpu
        cpu += _FLUSH_CPU_S
        for each in waiting:
            each.outcome.set_result(None)
        flushed.set()

    queue = LingerQueue[Waiting](
        linger_seconds=asked, step=lambda *_: BatchStep.WAIT, publish=publish, cpu_clock=lambda: cpu
    )
    for _ in range(2):
        flushed.clear()
        queue.add(Waiting(), 1)
        await flushed.wait()
    (first_cpu_s, first_since_s), (second_cpu_s, second_since_s) = asked.questions
    assert (first_cpu_s, second_cpu_s) == (0.0, _FLUSH_CPU_S)
    # The loop's clock began long before the first flush, which is none.
    assert 0.0 <= second_since_s < first_since_s
