"""What a service says about its settings."""

from services.chassis.settings_report import format_settings, report_settings
from services.notifier.settings import PREFIX, Settings

REQUIRED = {
    "NOTIFIER_BROKERS": "127.0.0.1:9092",
    "NOTIFIER_DATABASE_URL": "postgresql://user:secret@db/alerts",
    "NOTIFIER_ROUTES": "routes.yaml",
}


def test_a_report_has_defaults_secrets_and_former_names() -> None:
    report = report_settings(Settings, PREFIX, REQUIRED | {"NOTIFIER_NOTICE": "1s"})
    assert report["defaults"]["NOTIFIER_MAX_ATTEMPTS"] == "5"
    assert report["secrets"][0] == "NOTIFIER_KAFKA_SASL_PASSWORD"
    assert "NOTIFIER_DATABASE_URL" in report["secrets"]
    assert "NOTIFIER_DATABASE_URL_FILE" in set(report["defaults"]) - set(report["secrets"])
    assert report["renamed"] == {"NOTIFIER_NOTICE": "NOTIFIER_SHUTDOWN_DELAY"}
    assert report["problems"] == []


def test_a_report_names_all_problems_and_no_value() -> None:
    report = report_settings(Settings, PREFIX, REQUIRED | {"NOTIFIER_LEASE": "soon", "NOTIFIER_MAX_BATCH": "many"})
    assert report["problems"] == [
        "NOTIFIER_LEASE must be a duration such as 500ms, 5s or 2m",
        "NOTIFIER_MAX_BATCH must be an integer",
    ]


def test_help_has_two_lines_for_each_setting() -> None:
    lines = format_settings(Settings, PREFIX).splitlines()
    index = next(number for number, line in enumerate(lines) if "NOTIFIER_MAX_ATTEMPTS" in line)
    assert lines[index].split() == ["NOTIFIER_MAX_ATTEMPTS", "integer,", "default:", "5"]
    assert lines[index + 1].strip() == "Attempts at a delivery before it has failed."
