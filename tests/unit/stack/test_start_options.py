"""What a start keeps from earlier ones, and how it says so."""

from pathlib import Path

import pytest

from stack.start_options import (
    RequestedOptions,
    StartOptions,
    explain_variables,
    merge_options,
    merge_variables,
)
from stack.system import stages

KEPT = StartOptions(otlp="127.0.0.1:4317", routes=Path("/etc/routes.yaml"), sinks=True)


@pytest.mark.parametrize(
    ("requested", "chosen"),
    [
        pytest.param(RequestedOptions(), KEPT, id="nothing requested: all options are kept"),
        pytest.param(
            RequestedOptions(otlp="127.0.0.1:4318", routes="/new.yaml", sinks=False),
            StartOptions(otlp="127.0.0.1:4318", routes=Path("/new.yaml")),
            id="others requested",
        ),
        pytest.param(RequestedOptions(otlp="", routes=""), StartOptions(sinks=True), id="empty values remove"),
    ],
)
def test_options_that_are_not_given_are_kept(requested: RequestedOptions, chosen: StartOptions) -> None:
    assert merge_options(requested, KEPT) == chosen


def test_variables_that_are_not_given_are_kept_and_an_empty_one_is_removed() -> None:
    assert merge_variables({"A": "2", "B": ""}, {"A": "1", "B": "1", "C": "1"}) == {"A": "2", "C": "1"}


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        pytest.param({}, {}, [], id="nothing is set"),
        pytest.param({}, {"INGEST_X": "500"}, ["INGEST_X: 10000 → 500"], id="the first value, after the default"),
        pytest.param({"INGEST_X": "500"}, {"INGEST_X": "7"}, ["INGEST_X: 500 → 7"], id="another value"),
        pytest.param({"INGEST_X": "500"}, {}, ["INGEST_X: 500 → 10000"], id="removed"),
        pytest.param({}, {"INGEST_X": "10000"}, ["INGEST_X: 10000"], id="the default, given as a value"),
        pytest.param({"OTLP": "a:1"}, {}, ["OTLP: a:1 → none"], id="removed, without a default"),
        pytest.param(
            {"OTLP": "a:1", "SINKS": "1"},
            {"OTLP": "a:1", "SINKS": "1", "ROUTES": "/r"},
            ["ROUTES: none → /r", "as before: OTLP=a:1 SINKS=1 (an empty value, such as OTLP=, removes one)"],
            id="what is kept stands in one line",
        ),
    ],
)
def test_every_change_has_a_line(before: dict[str, str], now: dict[str, str], lines: list[str]) -> None:
    assert explain_variables(before, now, {"INGEST_X": "10000"}) == lines


def test_no_password_is_shown() -> None:
    name = "TOCSIN_POSTGRES"
    url = "postgresql://user:{}@db:5432/alerts?sslpassword={}"
    one, other = ({name: url.format(password, password)} for password in ("first", "second"))
    shown = "postgresql://user:…@db:5432/alerts?…"
    assert explain_variables({}, one, {}) == [f"{name}: none → {shown}"]
    assert explain_variables(one, other, {}) == [f"{name}: changed"]
    assert explain_variables(one, one, {}) == [
        f"as before: {name}={shown} (an empty value, such as {name}=, removes one)"
    ]


def test_a_routes_file_is_remembered_by_its_whole_path() -> None:
    assert merge_options(RequestedOptions(routes="routes.yaml"), StartOptions()).routes == Path.cwd() / "routes.yaml"


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (StartOptions(), True),
        (StartOptions(routes=Path("r")), False),
        (StartOptions(routes=Path("r"), sinks=True), True),
    ],
)
def test_sinks_run_without_a_routes_file_and_beside_one_when_asked_for(options: StartOptions, *, runs: bool) -> None:
    assert ("sinks" in stages(options)[0]) is runs
