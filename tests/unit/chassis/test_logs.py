import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from services.chassis import telemetry
from services.chassis.logs import configure_logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_one_json_object_with_service_instance_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingest", "one", "INFO")
    with telemetry.telemetry("ingest", "one", ""), telemetry.tracer("t").start_as_current_span("x") as span:
        structlog.get_logger().info("batch_accepted", events=3)
    (line,) = written(capsys)
    assert {key: line[key] for key in ("event", "events", "service", "instance", "level")} == {
        "event": "batch_accepted",
        "events": 3,
        "service": "ingest",
        "instance": "one",
        "level": "info",
    }
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingest", "one", "WARNING")
    structlog.get_logger().info("batch_accepted")
    assert written(capsys) == []


def test_libraries_log_in_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingest", "one", "INFO")
    logging.getLogger("some.library").warning("careful: %s", "wet paint")
    logging.getLogger("some.library").info("chatter")
    (line,) = written(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("careful: wet paint", "some.library", "warning")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingest", "one", "INFO")
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("batch_crashed")
    (line,) = written(capsys)
    assert "ValueError: invalid literal" in str(line["exception"])


def test_hostile_text_neither_controls_the_terminal_nor_ends_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingest", "one", "INFO")
    hostile = 'x\x1b[2J\x9b31m\u202e\u2028\r\n{"event":"forged"} Genève'
    structlog.get_logger().info("event_refused", reason=hostile)
    logging.getLogger("some.library").warning("%s", hostile)
    text = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in text)
    first, second = [json.loads(line) for line in text.splitlines()]
    assert (first["reason"], second["event"]) == (hostile, hostile)
    assert "Genève" in text
