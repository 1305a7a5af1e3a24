"""The hook that checks commit subjects."""

import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).resolve().parents[3] / ".githooks" / "commit-msg"


def checked(path: Path, message: str) -> int:
    file = path / "message"
    file.write_text(message)
    return subprocess.run([HOOK, file], check=False, capture_output=True).returncode


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    "message",
    [
        "evaluator: send nothing for rules that selected nothing\n\nEach rule wrote a row. It need not.\n",
        "docs/operations, stack: name the reason first",
        "cli,notifier: refuse a key that stands twice",
        "# a comment of git's\nbench: print a reference beside each figure\n",
        "a: " + "x" * 69,
    ],
)
def test_a_subject_with_an_area_is_taken(tmp_path: Path, message: str) -> None:
    assert checked(tmp_path, message) == 0


@pytest.mark.parametrize(
    "message", ["Fix it", "Evaluator: fix it", "evaluator:fix it", "evaluator: fix it.", "a: " + "x" * 70]
)
def test_another_subject_is_refused(tmp_path: Path, message: str) -> None:
    assert checked(tmp_path, message) == 1


def test_without_a_file_the_commits_that_origin_does_not_have_are_checked(tmp_path: Path) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([HOOK], cwd=tmp_path, check=False, capture_output=True, text=True)

    assert check().returncode == 0, "no history, nothing to check"
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "An old subject in another form")
    assert check().returncode == 0, "no origin, nothing to check"
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "cli: say it")
    assert check().returncode == 0
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "Say it")
    refused = check()
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[1:] == ["Say it"]
