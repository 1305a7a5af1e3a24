"""Secrets are masked on each way into Kafka, and only there."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from services.chassis.settings import SettingsError, load_settings
from services.ingest.app import chosen_redact
from services.ingest.core.redaction import redact_nothing
from services.ingest.core.redactor import Redactor
from services.ingest.settings import PREFIX, Settings
from tests.fakes.ingest import Bench, a_bench
from tests.fakes.log_events import an_event
from tests.unit.ingest.test_column_streams import compressed, stream_of
from tests.unit.ingest.test_columns_handler import contract_stream
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogEvent

BROKERS = {"INGEST_BROKERS": "127.0.0.1:9092"}
MESSAGE, MASKED = "from a@b.cc", "from [redacted:emails]"
SENT = {"service": "shop", "level": "ERROR", "message": MESSAGE}
WRITTEN = LogEvent(service="shop", level=LogEvent.ERROR, message=MASKED)


@pytest.fixture
def redacting() -> Bench:
    return a_bench(redact=Redactor(["emails", "passwords"], (), max_message_bytes=64).redact)


async def test_single_events(redacting: Bench) -> None:
    await redacting.ingest(an_event(message=MESSAGE))
    await redacting.ingest_json(json.dumps(SENT).encode())
    assert list(redacting.producer.events) == [an_event(message=MASKED), WRITTEN]


async def test_batches(redacting: Bench) -> None:
    response = await redacting.ingest_batch([an_event(), an_event(message=MESSAGE)])
    assert response.accepted_count == 2
    # By value and as columns.
    await redacting.ingest_json_batch(json.dumps([SENT | {"extra": [1]}]).encode())
    await redacting.ingest_json_batch(json.dumps([SENT]).encode())
    assert list(redacting.producer.events)[:2] == [an_event(), an_event(message=MASKED)]
    assert [event.message for event in redacting.producer.events][2:] == [MASKED, MASKED]


async def test_a_batch_with_refused_and_adjusted_events(redacting: Bench) -> None:
    events = [an_event(message=MESSAGE), an_event(service="", message=MESSAGE), an_event(trace_id="a@b.cc")]
    response = await redacting.ingest_batch(events)
    assert (response.accepted_count, response.refused_count) == (2, 1)
    assert list(redacting.producer.events) == [
        an_event(message=MASKED),
        an_event(attributes={"trace_id": "[redacted:emails]"}),
    ]


async def test_what_is_kept_of_a_single_event_as_an_attribute(redacting: Bench) -> None:
    await redacting.ingest(an_event(trace_id="a@b.cc"))
    assert list(redacting.producer.events) == [an_event(attributes={"trace_id": "[redacted:emails]"})]


async def test_columns(redacting: Bench) -> None:
    stream = compressed(contract_stream(an_event(), an_event(message=MESSAGE)), "zstd")
    await redacting.ingest_columns(stream, EventColumns.ZSTD)
    foreign = stream_of(pa.record_batch({"service": ["shop"], "level": ["ERROR"], "message": ["m"], "password": ["x"]}))
    await redacting.ingest_columns(foreign)
    *first, last = redacting.producer.events
    assert first == [an_event(), an_event(message=MASKED)]
    assert last.attributes == {"password": "[redacted:passwords]"}


async def test_columns_without_secrets_go_on_as_they_came(redacting: Bench) -> None:
    stream = compressed(contract_stream(an_event(), an_event()), "zstd")
    await redacting.ingest_columns(stream, EventColumns.ZSTD)
    ((record, _),) = redacting.producer.records
    assert stream in record


async def test_large_batches_are_masked_part_by_part() -> None:
    redactor = Redactor(["emails"], (), max_message_bytes=10_000)
    bench = a_bench(redact=redactor.redact, max_message_bytes=10_000, max_record_bytes=900_000)
    sent = [an_event(message="m" * 9000, record_id=str(number)) for number in range(60)]
    await bench.ingest_batch(sent)
    assert list(bench.producer.events) == sent
    sent[50].message = MESSAGE
    await bench.ingest_batch(sent)
    sent[50].message = MASKED
    assert list(bench.producer.events)[60:] == sent


async def test_a_message_that_grows_is_still_accepted(redacting: Bench) -> None:
    await redacting.ingest(an_event(message="a@b.cc " * 9))
    (event,) = redacting.producer.events
    assert event.message == ("[redacted:emails] " * 3)


def settings_of(**environ: str) -> Settings:
    return load_settings(Settings, PREFIX, BROKERS | environ)


def problems_of(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        chosen_redact(settings_of(INGEST_REDACT_PATTERNS_FILE=str(path)))
    return caught.value.problems


def test_nothing_is_masked_by_default() -> None:
    assert chosen_redact(settings_of()) is redact_nothing


def test_presets_and_a_file_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "patterns"
    path.write_text("ids: id-[0-9]+\n")
    redact = chosen_redact(settings_of(INGEST_REDACT="emails, cards", INGEST_REDACT_PATTERNS_FILE=str(path)))
    columns = pa.RecordBatch.from_pylist(
        [{"message": "id-1 a@b.cc password=x", "attributes": []}],
        pa.schema([("message", pa.string()), ("attributes", pa.map_(pa.string(), pa.string()))]),
    )
    assert redact(columns).events.column("message").to_pylist() == ["[redacted:ids] [redacted:emails] password=x"]


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"INGEST_REDACT must be names of keys, .*, got card"):
        settings_of(INGEST_REDACT="card,emails")


def test_messages_have_room_for_a_mask() -> None:
    assert settings_of(INGEST_MAX_MESSAGE_BYTES="10").max_message_bytes == 10
    with pytest.raises(
        SettingsError, match="INGEST_MAX_MESSAGE_BYTES must be at least 64 where secrets are masked, got 10"
    ):
        settings_of(INGEST_MAX_MESSAGE_BYTES="10", INGEST_REDACT="cards")


UNUSABLE = "INGEST_REDACT_PATTERNS_FILE names a file that cannot be used"


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "patterns"
    assert problems_of(path) == [f"{UNUSABLE}: {path}: cannot be read: No such file or directory"]
    path.write_text("a: b\nc: (\n")
    assert problems_of(path) == [f"{UNUSABLE}: {path}: line 2: not a regular expression of RE2: missing ): ("]
    path.write_bytes(b"a: \xff")
    assert problems_of(path) == [f"{UNUSABLE}: {path}: expected text in UTF-8"]
    path.write_bytes(b"#" * 600_000)
    assert problems_of(path) == [f"{UNUSABLE}: {path}: expected at most 524288 bytes, found 600000"]
