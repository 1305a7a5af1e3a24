"""Kafka's jars: from Maven's central repository into the user's cache, each checked against a recorded digest."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

KAFKA = "4.1.1"
_ROOT = f"org.apache.kafka:kafka_2.13:{KAFKA}"
# Without a binding for its logging interface Kafka would say nothing at all. Taken without its own
# dependencies, which would move those of Kafka to other versions.
_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
# After how many jars the progress is told again.
_STEP = 10
# Where the distributions keep the authorities that they trust.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_LOCK = Path(__file__).with_name("kafka.lock")

Progress = Callable[[str], None]


class JarsError(Exception):
    """The jars could not be had, or are not the recorded ones."""


def home() -> Path:
    """Give the folder of Kafka's jars, whether they are there yet or not."""
    return cache() / f"kafka-{KAFKA}-{_digest(_LOCK)[:12]}"


def classpath(progress: Progress) -> str:
    """Give Java's class path for Kafka, downloading the jars when this user has none yet."""
    if not home().exists():
        _fill(home(), progress)
    # Spelled out in a fixed order: what Java remembers of a start is good for the very same path only.
    return os.pathsep.join(sorted(str(jar) for jar in home().glob("*.jar")))


def cache() -> Path:
    """Give the folder for things that can be had again, which several clones share."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "tocsin"
    path.mkdir(parents=True, exist_ok=True)
    return path


def resolve() -> list[str]:
    """Work out the coordinates of everything that Kafka needs; asks the repository."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - brings an HTTP client, needed on a first run only

    with tempfile.TemporaryDirectory() as scratch, _machine_certificates():
        context = MavenContext(repo_cache=Path(scratch), timeout=60)
        roots, others = context.resolver.resolve([context.create_dependency(_ROOT)])
        found = [dependency.artifact for dependency in [*roots, *others]]
    return sorted([_BINDING, *(f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in found)])


def lock() -> None:
    """Resolve anew and record coordinates with digests; for the one who changes the version."""
    with tempfile.TemporaryDirectory() as scratch:
        jars = _download(resolve(), Path(scratch), print)
        _LOCK.write_text("".join(f"{_digest(path)}  {name}\n" for name, path in sorted(jars.items())))


def _fill(target: Path, progress: Progress) -> None:
    # Two first runs at once: the second waits for the first one's jars.
    with (cache() / "kafka.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if target.exists():
            return
        recorded = {name: digest for digest, name in (line.split() for line in _LOCK.read_text().splitlines())}
        scratch = Path(tempfile.mkdtemp(dir=cache()))
        try:
            _install(_download(list(recorded), scratch / "repository", progress), recorded, scratch / "jars")
            # In one step, so that an interrupted run leaves no half-filled folder under the final name.
            (scratch / "jars").rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _download(coordinates: list[str], repository: Path, progress: Progress) -> dict[str, Path]:
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
                progress(f"Kafka {KAFKA}: {len(jars)} of {len(pending)} jars, first time only")
    return jars


@contextlib.contextmanager
def _machine_certificates() -> Iterator[None]:
    """Let the HTTP client trust what this machine trusts, not only what its own package brings."""
    # Where a company's proxy re-signs traffic, its authority stands in the machine's list alone.
    found = next((path for path in _CERTIFICATES if Path(path).exists()), None)
    if found is None or "REQUESTS_CA_BUNDLE" in os.environ or "CURL_CA_BUNDLE" in os.environ:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = found
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _install(jars: dict[str, Path], recorded: dict[str, str], target: Path) -> None:
    target.mkdir()
    for name, path in jars.items():
        if _digest(path) != recorded[name]:
            raise JarsError(f"{name} is not the jar recorded in {_LOCK.name}")
        shutil.copyfile(path, target / path.name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    lock()
