"""Secrets, and files with secrets that are read again when they change.

A secret from a file has the file's present value each time it is revealed: so whoever opens a connection uses what the
file says now, and nothing has to be restarted. While the file is missing or wrong, the last good value stays.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

log = structlog.get_logger()

_MAX_BYTES = 65_536


class Secret:
    """A value that no repr, log line or error message shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the present value; call it where the value is used, and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash(self._value)


class FileSecret(Secret):
    """A secret in a file."""

    __slots__ = ("_check", "_path", "_refused")

    def __init__(self, path: Path, check: Callable[[Secret], None] | None = None) -> None:
        """Read the file. Raises ValueError with a text that follows the path: "cannot be read: …"."""
        self._path, self._check = path, check
        self._refused = ""
        super().__init__(self._read())

    def reveal(self) -> str:
        """Return the file's present content, or the last good one while it is missing or wrong."""
        try:
            value = self._read()
        except ValueError as error:
            if str(error) != self._refused:
                log.warning("secret_file_refused", path=str(self._path), reason=str(error))
            self._refused = str(error)
            return self._value
        if value != self._value:
            log.info("secret_file_changed", path=str(self._path))
        self._refused, self._value = "", value
        return value

    def _read(self) -> str:
        value = read_secret_file(self._path)
        if self._check is not None:
            self._check(Secret(value))
        return value


def read_secret_file(path: Path) -> str:
    """Return the content without white space around it; raise ValueError with the reason why there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"must have at most {_MAX_BYTES} bytes")
    try:
        value = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None
    if not value or "\0" in value:
        raise ValueError("must hold a value, without NUL" if value else "is empty")
    return value


def files_digest(paths: Iterable[Path]) -> bytes | None:
    """Return a digest of the files' contents, which changes when one of them does; None while one cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return None
    return digest.digest()
