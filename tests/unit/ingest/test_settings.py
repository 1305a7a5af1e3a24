"""Ingest's settings have the defaults that the proto states."""

from datetime import timedelta

import pytest

from services.chassis.settings import SettingsError, load_settings
from services.ingest.settings import PREFIX, Settings

BROKERS = {"INGEST_BROKERS": "127.0.0.1:9092"}


def test_the_defaults_are_those_of_the_proto() -> None:
    settings = load_settings(Settings, PREFIX, BROKERS)
    assert settings.limits.max_batch_events == 10_000
    assert settings.limits.max_request_bytes == 4 * 1024 * 1024
    assert settings.limits.max_message_bytes == 32_768
    assert settings.limits.max_attributes == 32
    assert settings.batch_policy.linger == timedelta(milliseconds=3)
    assert settings.process.listen == "127.0.0.1:50051"


def test_renamed_settings_are_read_under_their_former_names() -> None:
    settings = load_settings(Settings, PREFIX, BROKERS | {"INGEST_GATHER": "7ms", "INGEST_GATHER_EVENTS": "9"})
    assert (settings.batch_policy.linger, settings.batch_policy.max_events) == (timedelta(milliseconds=7), 9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("INGEST_MAX_ATTRIBUTES", "0", id="a limit that lets nothing through"),
        pytest.param("INGEST_MAX_LINGER_EVENTS", "0", id="a batch that is never flushed"),
        pytest.param("INGEST_MAX_RECEIVING", "0", id="no place to receive"),
        pytest.param("INGEST_MAX_RECORD_BYTES", str(16 * 1024 * 1024), id="records that no evaluator reads"),
        pytest.param("INGEST_COMPRESSION", "gzip", id="a compression that the contract does not have"),
        pytest.param("INGEST_MAX_COLUMNS_BYTES", "0", id="no columns at all"),
        pytest.param("INGEST_MAX_COLUMNS_BYTES", "16777217", id="larger columns than any reader takes"),
        pytest.param("INGEST_MAX_INFLIGHT_BYTES", "1000", id="less memory than one request needs"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(Settings, PREFIX, BROKERS | {name: value})


def test_columns_have_memory_besides_their_request() -> None:
    assert load_settings(Settings, PREFIX, BROKERS).max_stream_bytes == 8 * 1024 * 1024
    environ = BROKERS | {"INGEST_MAX_INFLIGHT_BYTES": str(8 * 1024 * 1024)}
    assert load_settings(Settings, PREFIX, environ).max_stream_bytes == 4 * 1024 * 1024
