from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.chassis.secret_files import FileSecret, Secret, files_digest, read_secret_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("first\n")
    return file


def test_a_secret_from_a_file_is_the_file_s_present_content(path: Path) -> None:
    secret = FileSecret(path)
    assert secret == Secret("first")
    assert repr(secret) == "Secret(…)"
    path.write_text(" second ")
    with capture_logs() as logs:
        assert [secret.reveal(), secret.reveal()] == ["second", "second"]
    assert logs == [{"event": "secret_file_changed", "path": str(path), "log_level": "info"}]


def test_the_last_good_value_stays_while_the_file_is_wrong_and_each_reason_is_logged_once(path: Path) -> None:
    def must_be_short(secret: Secret) -> None:
        if len(secret.reveal()) > 6:
            raise ValueError("must be short")

    secret = FileSecret(path, must_be_short)
    with capture_logs() as logs:
        for content in ("", "much too long", "much too long"):
            path.write_text(content)
            assert secret.reveal() == "first"
        path.unlink()
        assert secret.reveal() == "first"
        path.write_text("second")
        assert secret.reveal() == "second"
        path.unlink()
        assert secret.reveal() == "second"
    assert [(log["event"], log.get("reason")) for log in logs] == [
        ("secret_file_refused", "is empty"),
        ("secret_file_refused", "must be short"),
        ("secret_file_refused", "cannot be read: No such file or directory"),
        ("secret_file_changed", None),
        ("secret_file_refused", "cannot be read: No such file or directory"),
    ]
    assert "too long" not in str(logs)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n", "is empty"),
        (b"a\0b", "must hold a value, without NUL"),
        (b"\xff", "must be UTF-8"),
        (b"x" * 65_537, "must have at most 65536 bytes"),
    ],
)
def test_what_is_no_secret_is_refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_secret_file(path)


def test_a_digest_changes_with_the_content_of_any_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert files_digest([path, other]) is None
    other.write_text("x")
    digests = {files_digest([path, other]), files_digest([other, path]), files_digest([path])}
    path.write_text("f")
    other.write_text("irst\nx")
    digests.add(files_digest([path, other]))
    assert len(digests - {None}) == 4
    assert files_digest([]) == files_digest(iter([]))
