from pathlib import Path

import pytest

from services.chassis.settings import SettingsError
from services.redaction.presets import SecretPattern
from services.redaction.settings import known_presets, read_patterns


def test_presets_are_known_by_name() -> None:
    known_presets(("keys", "emails"))
    with pytest.raises(ValueError, match=r"must be names of keys, .*, got mails"):
        known_presets(("keys", "mails"))


def test_without_a_file_there_are_no_patterns() -> None:
    assert read_patterns("") == ()


def test_a_files_patterns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "patterns"
    path.write_text("# ours\nids: C[0-9]+\n")
    assert read_patterns(str(path)) == (SecretPattern(name="ids", regex="C[0-9]+"),)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "expected text in UTF-8"),
        (b"x" * (512 * 1024 + 1), "expected at most 524288 bytes, found 524289"),
        (b"ids C[0-9]+", 'line 1: expected "name: regular expression"'),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_path(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "patterns"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_patterns(str(path))
    assert refused.value.problems[0].startswith(f"{path}: {problem}")
