"""Lines of files and of standard input."""

import gzip
import os
from collections.abc import Callable
from contextlib import closing
from io import TextIOWrapper
from pathlib import Path

import pytest

from cli.send.log_file import MAX_LINE_BYTES, LogFile, service_name_of, split_lines
from tests.unit.cli.parsing.log_lines import parsed_lines


def content(file: Path) -> list[str | None]:
    with closing(LogFile(file)) as source:
        return list(source.lines())


def test_gzip_is_read_as_its_content(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(gzip.compress(b"a\nb\n") + gzip.compress(b"c\n" * 100_000))
    assert content(file) == ["a", "b", *["c"] * 100_000]


def test_gzip_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "app.log.gz"
    file.write_bytes(gzip.compress(b"a\n" * 100_000, compresslevel=0)[:-100])
    with closing(LogFile(file)) as source:
        assert len(list(source.lines())) > 90_000
        assert source.error is not None
        assert "cut off" in str(source.error)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_binary_data_is_refused(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "app.log"
    file.write_bytes(packed(b"\x7fELF\x00\x01\n"))
    with pytest.raises(OSError, match="binary data"):
        content(file)


def test_lines_end_where_they_end_however_the_blocks_are_cut() -> None:
    blocks = [b"\xef\xbb\xbfa", None, b"b\r\n\nc\xff", b"\nd"]
    assert list(split_lines(blocks)) == [None, "ab", "", "c\ufffd", "d"]


def test_a_line_without_end_is_cut() -> None:
    (line,) = split_lines([b"x" * 100_000] * 30)
    assert line is not None
    assert len(line) == MAX_LINE_BYTES


def test_standard_input_gives_ticks_and_ends_when_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as stdout:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(stdin))
        monkeypatch.setattr("cli.send.log_file.STDIN_TICK_S", 0.01)
        stops = [False]
        source = LogFile(Path("-"), is_stopped=lambda: stops[0])
        lines = source.lines()
        stdout.write(b"a\nb")
        assert next(lines) == "a"
        assert next(lines) is None
        stops[0] = True
        assert list(lines) == ["b"]
        assert not source.is_read_to_end


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("catalog.log", "catalog"),
        ("syslog", "syslog"),
        ("syslog.1", "syslog"),
        ("txt-import.txt", "txt-import"),
        ("shop.jsonl", "shop"),
        ("shop.ndjson.gz", "shop"),
        ("app.log.1", "app"),
        ("app.log.12.gz", "app"),
        ("app.log-20260101", "app"),
        ("app-2026-01-01.log", "app"),
        ("app.log.2026-01-01_13:53:08", "app"),
        ("app-2.log", "app-2"),
        ("OpenStack_2k.log", "OpenStack_2k"),
        (".log", ".log"),
        ("stdin", "stdin"),
        (f"shop-7d9f_default_cart-{'0a' * 32}.log", "cart"),
    ],
)
def test_a_service_is_named_after_its_file(name: str, service: str) -> None:
    assert service_name_of(name) == service


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("INFO: one\n\nERROR: two\n  goes on\n \t\nINFO: three\n")
    with closing(LogFile(path)) as file:
        assert sum(one.line_count for one in parsed_lines(file.lines()) if one) == 4
        assert (file.lines_read, file.blank_lines) == (6, 2)
