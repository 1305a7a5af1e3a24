"""What a start is told once and later starts keep: where traces and notifications go, and whether local sinks run.

The run folder remembers it (stack/wiring.py). A start says what it uses and where that comes from, so that no setting
is replaced in silence.
"""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the system runs with."""

    otlp: str = ""
    # None: the example's routes, which lead to the local sinks.
    routes: Path | None = None
    sinks: bool = False

    @property
    def runs_sinks(self) -> bool:
        """Return whether the local sinks run: without a routes file, and beside one when that is asked for."""
        return self.routes is None or self.sinks


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a start is told: None keeps what the folder remembers, an empty text removes it."""

    otlp: str | None = None
    routes: str | None = None
    sinks: bool | None = None


def choose(told: Told, remembered: Choices) -> Choices:
    """Return what the system runs with from now on."""
    chosen = remembered
    if told.otlp is not None:
        chosen = replace(chosen, otlp=told.otlp)
    if told.routes is not None:
        chosen = replace(chosen, routes=Path(told.routes).resolve() if told.routes else None)
    if told.sinks is not None:
        chosen = replace(chosen, sinks=told.sinks)
    return chosen


def explain_choices(told: Told, remembered: Choices, chosen: Choices) -> list[str]:
    """Return a line for each setting that is in use, or that was removed."""
    texts = {
        "OTLP": (told.otlp is not None, remembered.otlp, chosen.otlp),
        "ROUTES": (told.routes is not None, str(remembered.routes or ""), str(chosen.routes or "")),
        "SINKS": (told.sinks is not None, _beside(remembered), _beside(chosen)),
    }
    return [line for name, values in texts.items() if (line := _explain(name, *values))]


def _beside(choices: Choices) -> str:
    return "local sinks run beside the routes file" if choices.routes and choices.sinks else ""


def _explain(name: str, is_told: bool, before: str, now: str) -> str:  # noqa: FBT001 - a row of the table above
    if now == before:
        return f"{name}: {now}" + ("" if is_told else f", as before; {name}= removes it") if now else ""
    formerly = f"; formerly {before}" if before else ""
    return f"{name}: {now or 'removed'}{formerly}"
