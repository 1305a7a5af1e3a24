import pytest

from cli.source import service_of


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
    ],
)
def test_a_service_is_named_after_its_file(name: str, service: str) -> None:
    assert service_of(name) == service
