import gzip
import json
import os
import signal
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import grpc
import pytest
import typer
from typer.testing import CliRunner

from cli.main import app
from cli.output import OutputFormat
from cli.send.command import interruptible, send
from cli.send.events import OutgoingEvent
from cli.send.sender import MAX_BATCH_BYTES, SendSummary, send_events
from tests.fakes.ingest_server import IngestServer
from tests.unit.cli.commands import sent
from tests.unit.cli.send.log_texts import MIXED
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest


def test_an_unknown_time_zone_is_wrong_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["send", str(tmp_path), "--timezone", "Mars/Olympus"])
    assert done.exit_code == 2
    assert "Mars/Olympus" in done.output


def test_a_file_is_sent_with_its_times_in_the_zone_and_its_name_as_service(
    tmp_path: Path, ingest: IngestServer
) -> None:
    file = tmp_path / "shop.log.gz"
    file.write_bytes(gzip.compress(b"2026-07-01 12:00:00 ERROR boom\n"))
    done = sent(ingest, str(file), "--timezone", "Europe/Berlin")
    assert done.exit_code == 0, done.output
    (event,) = ingest.events
    assert (event.service, event.message) == ("shop", "boom")
    assert event.event_time.ToJsonString() == "2026-07-01T10:00:00Z"


def test_several_files_are_each_sent_and_reported(tmp_path: Path, ingest: IngestServer) -> None:
    files = [tmp_path / "shop.log", tmp_path / "search.log"]
    for file in files:
        file.write_text(f"2026-07-01 12:00:00 ERROR {file.stem} failed\n")
    done = sent(ingest, *map(str, files), "--times", "arrival")
    assert done.exit_code == 0, done.output
    assert {(event.service, event.message) for event in ingest.events} == {
        ("shop", "shop failed"),
        ("search", "search failed"),
    }
    assert all(f"{file.name}: 1 line read" in done.output for file in files)


def test_of_several_files_one_that_cannot_be_read_decides_the_exit_code_and_stops_no_other(
    tmp_path: Path, ingest: IngestServer
) -> None:
    (tmp_path / "shop.log").write_text("2026-07-01 12:00:00 ERROR boom\n")
    done = sent(ingest, str(tmp_path / "absent.log"), str(tmp_path / "shop.log"), "--times", "arrival")
    assert done.exit_code == 2
    assert "absent.log: No such file or directory" in done.stderr
    assert ingest.messages == ["boom"]


def test_batches_are_cut_by_bytes_as_well(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_text(f"ERROR: {'x' * 30_000}\n" * 400)
    done = sent(ingest, str(file))
    assert done.exit_code == 0, done.output
    assert len(ingest.events) == 400
    assert MAX_BATCH_BYTES - 40_000 < max(request.ByteSize() for request in ingest.requests) <= MAX_BATCH_BYTES


def test_a_tick_flushes_and_waits_for_the_responses(ingest: IngestServer) -> None:
    summary = SendSummary()

    def items() -> Iterator[OutgoingEvent | None]:
        yield OutgoingEvent(first_line=1, last_line=1, event=LogEvent(message="a"))
        yield None
        assert summary.accepted == 1
        assert ingest.messages == ["a"]

    with grpc.insecure_channel(ingest.address) as channel:
        send_events(channel, items(), on_progress=lambda _: None, summary=summary)


def test_of_very_many_fields_of_an_event_only_the_allowed_number_is_sent(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.jsonl"
    # Each of the inner names is sent with the outer one before it.
    large = {"message": "large", "x" * 100: {str(number): "ü" * 2000 for number in range(60)}}
    file.write_text(json.dumps(large) + '\n{"message":"small"}\n')
    done = sent(ingest, str(file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert ingest.messages == ["large", "small"]
    assert len(ingest.events[0].attributes) == 32
    assert ingest.events[0].ByteSize() < MAX_BATCH_BYTES


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    file = tmp_path / "shop.log"
    file.write_text("".join(f"ERROR: {number}\n" for number in range(1, 5001)))
    return file


@pytest.mark.parametrize("lines", [1, 8, 2000, 2001])
def test_no_line_behind_the_end_of_a_file_is_unsent(tmp_path: Path, ingest: IngestServer, lines: int) -> None:
    ingest.is_away = lambda _: True
    file = tmp_path / "shop.log"
    file.write_text("".join(f"ERROR: {number}\n" for number in range(lines)))
    unsent = json.loads(sent(ingest, str(file), "-o", "json").stdout)["unsent"]
    assert any(each["last"] == min(lines, 2000) for each in unsent)
    assert [each["first"] for each in unsent if each["last"] is None] == [2001] * (lines > 2000)


def test_a_server_that_is_away_for_a_moment_gets_what_is_left(long_file: Path, ingest: IngestServer) -> None:
    failures = iter([True, True])
    ingest.is_away = lambda request: request.events[0].message == "1001" and next(failures, False)
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert sorted(map(int, ingest.messages)) == list(range(1, 5001))
    assert json.loads(done.stdout)["unsent"] == []


def test_a_server_that_has_accepted_nothing_is_not_waited_for(long_file: Path, ingest: IngestServer) -> None:
    calls: list[str] = []

    def is_away(request: IngestBatchRequest) -> bool:
        calls.append(request.events[0].message)
        return True

    ingest.is_away = is_away
    assert sent(ingest, str(long_file)).exit_code == 3
    assert calls.count("1") == 1


def test_lines_that_a_failed_call_leaves_unsent_are_reported(long_file: Path, ingest: IngestServer) -> None:
    ingest.is_away = lambda request: request.events[0].message in {"1001", "5001"}
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 3
    assert "UNAVAILABLE" in done.stderr
    report = json.loads(done.stdout)
    gap, rest = report["unsent"]
    assert gap == {"first": 1001, "last": 1500}
    assert rest["last"] is None
    unsent = {*range(1001, 1501), *range(rest["first"], 5001)}
    assert report["accepted"] == len(ingest.messages) > 1000
    assert {int(message) for message in ingest.messages} == set(range(1, 5001)) - unsent


def test_a_table_names_the_lines_to_send_again(long_file: Path, ingest: IngestServer) -> None:
    ingest.is_away = lambda request: request.events[-1].message == "5000"
    done = sent(ingest, str(long_file))
    assert done.exit_code == 3
    assert "4,500 events accepted, 0 refused, 0 continuation lines, 0 blank, 500 not sent" in done.stdout
    assert "lines 4501 to 5000." in done.stdout


def test_what_was_not_understood_is_printed_with_its_count(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_text(MIXED)
    done = sent(ingest, str(file), "-o", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["lines"], report["accepted"], report["continuations"], report["blank"]) == (6, 5, 1, 0)
    assert report["notes"] == {
        "NO_LEVEL": 1,
        "NO_TIME": 1,
        "STATUS_KEPT": 1,
        "TRACE_ID_PADDED": 1,
        "UNKNOWN_LEVEL": 1,
    }
    assert report["unknownLevels"] == {"sev5": 1}
    assert "shop.log: 1 event has no level that is understood, and is sent as INFO" in done.stderr
    assert "shop.log: 1 event has an unknown level, and is sent as INFO: 'sev5' (1)" in done.stderr
    assert "shop.log: 1 event has no time" in done.stderr


def test_only_a_bounded_number_of_unknown_levels_is_reported(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(f'{{"level":"odd{number}{"x" * 100}","message":"m"}}\n' for number in range(100)))
    report = json.loads(sent(ingest, str(file), "-o", "json").stdout)
    assert report["notes"]["UNKNOWN_LEVEL"] == 100
    assert len(report["unknownLevels"]) == 20
    assert max(map(len, report["unknownLevels"])) == 40


def test_a_missing_time_is_not_noted_with_times_arrival(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_text("ERROR: boom\n")
    assert sent(ingest, str(file), "--times", "arrival").stderr == ""


def test_a_pattern_that_fits_no_line_is_reported(long_file: Path, ingest: IngestServer) -> None:
    done = sent(ingest, str(long_file), "--pattern", "FATAL (?P<message>.*)")
    assert done.exit_code == 1
    assert "--pattern fits no line" in done.stderr
    assert 'expected a line of the format custom, found "ERROR: 1"' in done.stdout
    assert not ingest.events


def test_a_file_that_is_not_text_is_reported(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log"
    file.write_bytes(b"\x00\x01")
    done = sent(ingest, str(file))
    assert done.exit_code == 2
    assert "binary data" in done.stderr


def test_a_file_that_ends_early_is_sent_as_far_as_it_goes(tmp_path: Path, ingest: IngestServer) -> None:
    file = tmp_path / "shop.log.gz"
    file.write_bytes(gzip.compress(b"ERROR: a\n" * 1000, compresslevel=0)[:-100])
    done = sent(ingest, str(file))
    assert done.exit_code == 2
    assert "cut off" in done.stderr
    assert len(ingest.events) > 900


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_standard_input_is_sent_before_it_ends_and_ctrl_c_reports(
    ingest: IngestServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(stdin))
        monkeypatch.setattr("cli.send.log_file.STDIN_TICK_S", 0.01)
        pipe.write(b"ERROR: a\nERROR: b\n")

        def more_then_interrupt() -> None:
            ingest.then = lambda: None
            pipe.write(b"ERROR: c\nERROR: d")
            interrupt()

        ingest.then = more_then_interrupt
        with pytest.raises(typer.Exit) as ended:
            send([Path("-")], server=ingest.address, output=OutputFormat.JSON)
    assert ended.value.exit_code == 130
    report = json.loads(capsys.readouterr().out)
    assert (report["accepted"], report["unsent"]) == (len(ingest.events), [])
    assert ingest.messages[:2] == ["a", "b"]


def test_ctrl_c_ends_a_file_in_order_and_reports_where(long_file: Path, ingest: IngestServer) -> None:
    long_file.write_text(long_file.read_text() * 20)

    def interrupt_once() -> None:
        ingest.then = lambda: None
        interrupt()

    ingest.then = interrupt_once
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 130
    report = json.loads(done.stdout)
    assert report["unsent"] == [{"first": report["lines"] + 1, "last": None}]
    assert report["accepted"] == len(ingest.events) == report["lines"] < 100_000


def test_a_second_ctrl_c_ends_at_once() -> None:
    # A run in a shell's background inherits that Ctrl-C is ignored.
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as is_stopped:
        assert not is_stopped()
        interrupt()
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
