"""Options that later starts keep: where traces and notifications go, and whether local sinks run.

The run folder stores them (stack/wiring.py). A start prints which options it uses and what they were before, so that no
setting is replaced in silence.
"""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
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
class RequestedOptions:
    """The options of one start: None keeps the stored option, an empty string removes it."""

    otlp: str | None = None
    routes: str | None = None
    sinks: bool | None = None


def merge_options(requested: RequestedOptions, stored: StartOptions) -> StartOptions:
    """Return what the system runs with from now on."""
    options = stored
    if requested.otlp is not None:
        options = replace(options, otlp=requested.otlp)
    if requested.routes is not None:
        options = replace(options, routes=Path(requested.routes).resolve() if requested.routes else None)
    if requested.sinks is not None:
        options = replace(options, sinks=requested.sinks)
    return options


def explain_options(requested: RequestedOptions, stored: StartOptions, options: StartOptions) -> list[str]:
    """Return a line for each setting that is in use, or that was removed."""
    texts = {
        "OTLP": (requested.otlp is not None, stored.otlp, options.otlp),
        "ROUTES": (requested.routes is not None, str(stored.routes or ""), str(options.routes or "")),
        "SINKS": (requested.sinks is not None, _beside(stored), _beside(options)),
    }
    return [line for name, values in texts.items() if (line := _explain(name, *values))]


def _beside(options: StartOptions) -> str:
    return "local sinks run beside the routes file" if options.routes and options.sinks else ""


def _explain(name: str, is_requested: bool, before: str, now: str) -> str:  # noqa: FBT001 - a row of the table above
    if now == before:
        return f"{name}: {now}" + ("" if is_requested else f", as before; {name}= removes it") if now else ""
    formerly = f"; formerly {before}" if before else ""
    return f"{name}: {now or 'removed'}{formerly}"
