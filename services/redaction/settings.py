"""Reads what settings say of masking."""

from pathlib import Path

from services.chassis.settings import SettingsError
from services.redaction.presets import SECRET_PRESETS, SecretPattern

# A hundred patterns of a thousand characters are not larger.
_MAX_PATTERNS_BYTES = 512 * 1024


def known_presets(names: tuple[str, ...]) -> None:
    """Raise ValueError unless all are names of presets."""
    unknown = [name for name in names if name not in SECRET_PRESETS]
    if unknown:
        raise ValueError(f"must be names of {', '.join(SECRET_PRESETS)}, got {', '.join(unknown)}")


def check_patterns_file(file: str) -> None:
    """Raise ValueError unless the file on this path can be used; an empty path is none."""
    try:
        read_patterns(file)
    except SettingsError as error:
        raise ValueError(f"names a file that cannot be used: {'; '.join(error.problems)}") from None


def read_patterns(file: str) -> tuple[SecretPattern, ...]:
    """Return the patterns of the file on this path; none without one. Raises SettingsError with all problems."""
    if not file:
        return ()
    # Hyperscan and RE2, which check patterns, take 20 MB and a tenth of a second.
    from services.redaction.patterns_file import InvalidPatternsError, parse_patterns  # noqa: PLC0415

    try:
        return parse_patterns(_text(Path(file)))
    except InvalidPatternsError as error:
        raise SettingsError([f"{file}: {problem}" for problem in error.problems]) from None


def _text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > _MAX_PATTERNS_BYTES:
            raise SettingsError([f"{path}: expected at most {_MAX_PATTERNS_BYTES} bytes, found {size}"])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: expected text in UTF-8"]) from None
