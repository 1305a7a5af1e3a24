import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.settings import (
    KafkaSettings,
    PostgresSettings,
    ProcessSettings,
    RedisSettings,
    RenamedSetting,
    Secret,
    SettingsError,
    describe_settings,
    load_settings,
    part,
    renamed_settings,
    setting,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    process: ProcessSettings = part(listen="127.0.0.1:50051", admin_listen="127.0.0.1:9101")
    kafka: KafkaSettings = part()
    postgres: PostgresSettings = part()
    max_batch: int = setting("Most events in one batch.", default=100)
    ratio: float = setting("A ratio.", default=0.5)
    strict: bool = setting("Whether it is strict.", default=False)
    folder: Path = setting("A folder.", default=Path("x"))
    names: tuple[str, ...] = setting("Names.", default=("a", "b"))

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError("max_batch must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    max_size: int = setting("A limit.", default=1, former="limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    process: ProcessSettings = part(listen="127.0.0.1:1", admin_listen="127.0.0.1:2", shutdown_delay=timedelta(0))
    own: Renamed = part(max_size=9)
    name: str = setting("A required name.", former="title")


REQUIRED = {"X_BROKERS": "kafka:9092", "X_DATABASE_URL": "postgresql://u:p@h/d"}


def loaded(**environ: str) -> Settings:
    return load_settings(Settings, "X_", REQUIRED | {f"X_{name}": value for name, value in environ.items()})


def test_nested_parts_are_read_under_the_same_prefix_with_the_service_s_own_defaults() -> None:
    settings = loaded(LISTEN="127.0.0.2:1", TOPIC_PREFIX="t.")
    assert settings.process.listen == "127.0.0.2:1"
    assert settings.process.admin_listen == "127.0.0.1:9101"
    assert settings.kafka == KafkaSettings(brokers="kafka:9092", topic_prefix="t.")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MAX_BATCH", "7", 7),
        ("RATIO", "0.25", 0.25),
        ("STRICT", "Yes", True),
        ("STRICT", "off", False),
        ("FOLDER", "/a/b", Path("/a/b")),
        ("NAMES", "x, y,", ("x", "y")),
        ("NAMES", "", ()),
    ],
)
def test_values_are_parsed_by_their_type(name: str, text: str, value: object) -> None:
    assert getattr(loaded(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("250us", timedelta(microseconds=250)),
        ("1500ms", timedelta(seconds=1.5)),
        ("90s", timedelta(seconds=90)),
        ("1h", timedelta(hours=1)),
        ("14d", timedelta(days=14)),
    ],
)
def test_a_default_is_shown_in_the_format_that_is_read(text: str, duration: timedelta) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Waiting:
        wait: timedelta = setting("How long.", default=duration)

    (described,) = describe_settings(Waiting, "X_")
    assert described.default == text
    assert load_settings(Waiting, "X_", {"X_WAIT": text}).wait == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("5s", timedelta(seconds=5)),
        ("1.5s", timedelta(seconds=1.5)),
        ("2m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
    ],
)
def test_durations_have_a_unit(text: str, duration: timedelta) -> None:
    assert loaded(DRAIN=text).process.drain == duration


def test_all_problems_are_reported_at_once() -> None:
    given = {
        "X_LISTEN": "127.0.0.1:99999",
        "X_ADMIN_LISTEN": "somewhere",
        "X_LOG_LEVEL": "LOUD",
        "X_SHUTDOWN_DELAY": "5",
        "X_DRAIN": "0s",
        "X_BROKERS": " ",
        "X_DATABASE_URL": "h",
        "X_MAX_BATCH": "many",
    }
    with pytest.raises(SettingsError) as error:
        load_settings(Settings, "X_", given)
    assert error.value.problems == [
        "X_LISTEN must be host:port",
        "X_ADMIN_LISTEN must be host:port",
        "X_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR",
        "X_SHUTDOWN_DELAY must be a duration such as 500ms, 5s or 2m",
        "X_DRAIN must be longer than 0s",
        "X_BROKERS is required",
        (
            "X_DATABASE_URL must be postgresql://user:password@host:port/name,"
            " with / ? # @ of a password written as %2F %3F %23 %40"
        ),
        "X_MAX_BATCH must be an integer",
    ]


def test_a_value_that_the_dataclass_refuses_is_a_problem() -> None:
    with pytest.raises(SettingsError, match=r"^X_MAX_BATCH must be at least 1$"):
        loaded(MAX_BATCH="0")


def test_a_secret_is_hidden_until_it_is_revealed() -> None:
    settings = loaded()
    assert settings.postgres.database_url.reveal() == "postgresql://u:p@h/d"
    assert "u:p" not in f"{settings!r} {settings} {settings.postgres.database_url!s}"
    assert settings.postgres.database_url == Secret("postgresql://u:p@h/d")


@pytest.mark.parametrize(
    "rest", ["u:hunter/2@h:5432/d", "u:hunter#2@h/d", "u:hunter?2@h/d", "u:1/2@h", "u:hunter/2@h", "h:hunter", "h h/d"]
)
def test_an_invalid_url_is_refused_without_showing_its_password(rest: str) -> None:
    for url, kind in (("X_DATABASE_URL", PostgresSettings), ("X_REDIS_URL", RedisSettings)):
        scheme = "postgresql" if kind is PostgresSettings else "redis"
        with pytest.raises(SettingsError, match="must be") as error:
            load_settings(kind, "X_", {url: f"{scheme}://{rest}"})
        assert "hunter" not in str(error.value)


@pytest.mark.parametrize(
    "rest", ["h", "h/d", "u@h:1/d", "u:p%2F@h/d", "u:p@p@[::1]:5432/d", "h1:1,h2:2/d?target_session_attrs=any", "/d"]
)
def test_urls_that_drivers_accept_are_accepted(rest: str) -> None:
    assert (
        load_settings(PostgresSettings, "X_", {"X_DATABASE_URL": f"postgres://{rest}"})
        .database_url.reveal()
        .endswith(rest)
    )


def test_a_problem_does_not_show_the_value() -> None:
    with pytest.raises(SettingsError) as error:
        loaded(MAX_BATCH="hunter2")
    assert "hunter2" not in str(error.value)


def test_describing_names_each_setting_with_type_default_and_help() -> None:
    docs = {doc.name: doc for doc in describe_settings(Settings, "X_")}
    assert docs["X_LISTEN"].default == "127.0.0.1:50051"
    assert docs["X_BROKERS"].required
    assert docs["X_BROKERS"].default is None
    assert docs["X_INSTANCE"].default == "the host name"
    assert (docs["X_DRAIN"].type, docs["X_DRAIN"].default) == ("duration", "10s")
    assert (docs["X_NAMES"].type, docs["X_NAMES"].default) == ("list of string", "a,b")
    assert (docs["X_STRICT"].default, docs["X_DATABASE_URL"].type) == ("false", "secret")
    assert all(doc.help.endswith(".") for doc in docs.values())


def test_each_secret_is_also_described_as_a_file_and_its_default_is_hidden() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Login:
        password: Secret = setting("A password.", default=Secret("hunter2"))

    secret, file = describe_settings(Login, "X_")
    assert (secret.name, secret.type, secret.required, secret.default) == ("X_PASSWORD", "secret", False, "")
    assert (file.name, file.type, file.required, file.default) == ("X_PASSWORD_FILE", "path", False, "")
    assert "X_PASSWORD," in file.help


def test_a_secret_comes_from_the_file_that_its_setting_names(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://u:p@h/d\n")
    for empty in ({}, {"X_DATABASE_URL": " "}):
        settings = load_settings(PostgresSettings, "X_", {"X_DATABASE_URL_FILE": f" {path}"} | empty)
        assert settings.database_url.reveal() == "postgresql://u:p@h/d"
        assert "u:p" not in repr(settings)
    assert load_settings(PostgresSettings, "X_", {"X_DATABASE_URL": "postgresql://h/d", "X_DATABASE_URL_FILE": ""})


def test_a_secret_that_is_set_twice_or_whose_file_is_wrong_is_reported_without_its_value(tmp_path: Path) -> None:
    wrong = tmp_path / "url"
    wrong.write_text("hunter2")
    reported = {
        (
            "postgresql://u:hunter2@h/d",
            str(wrong),
        ): "X_DATABASE_URL and X_DATABASE_URL_FILE are both set; set one of them",
        ("", "hunter2"): "X_DATABASE_URL_FILE: the file cannot be read: No such file or directory",
        ("", str(wrong)): "X_DATABASE_URL_FILE: the file must be postgresql://",
    }
    for (value, file), problem in reported.items():
        with pytest.raises(SettingsError) as error:
            load_settings(PostgresSettings, "X_", {"X_DATABASE_URL": value, "X_DATABASE_URL_FILE": file})
        (only,) = error.value.problems
        assert only.startswith(problem)
        assert "hunter2" not in only


@given(st.dictionaries(st.sampled_from([doc.name for doc in describe_settings(Settings, "X_")]), st.text()))
def test_any_environment_either_loads_or_is_reported(environ: dict[str, Any]) -> None:
    with suppress(SettingsError):
        assert load_settings(Settings, "X_", environ).max_batch >= 1


@pytest.mark.parametrize(
    ("environ", "max_size", "used"),
    [
        pytest.param({}, 1, [], id="the default"),
        pytest.param({"X_LIMIT": "2"}, 2, ["X_LIMIT"], id="the former name"),
        pytest.param({"X_MAX_SIZE": "3"}, 3, [], id="the new name"),
        pytest.param({"X_LIMIT": "2", "X_MAX_SIZE": "3"}, 3, ["X_MAX_SIZE"], id="both: the new name wins"),
    ],
)
def test_a_setting_is_still_read_under_its_former_name(environ: dict[str, str], max_size: int, used: list[str]) -> None:
    assert load_settings(Renamed, "X_", environ) == Renamed(max_size=max_size)
    assert renamed_settings(Renamed, "X_", environ) == [
        RenamedSetting(former="X_LIMIT", name="X_MAX_SIZE", used=name) for name in used
    ]


def test_the_former_name_works_in_nested_parts_and_for_required_settings() -> None:
    environ = {"X_NOTICE": "3s", "X_LIMIT": "2", "X_TITLE": "t"}
    settings = load_settings(Whole, "X_", environ)
    assert (settings.process.shutdown_delay, settings.own.max_size, settings.name) == (timedelta(seconds=3), 2, "t")
    assert [(each.former, each.name) for each in renamed_settings(Whole, "X_", environ)] == [
        ("X_NOTICE", "X_SHUTDOWN_DELAY"),
        ("X_LIMIT", "X_MAX_SIZE"),
        ("X_TITLE", "X_NAME"),
    ]


def test_a_service_s_own_default_counts_while_neither_name_is_set() -> None:
    settings = load_settings(Whole, "X_", {"X_NAME": "n"})
    assert (settings.process.shutdown_delay, settings.own.max_size) == (timedelta(0), 9)


def test_a_problem_names_the_setting_as_it_was_written() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(Whole, "X_", {"X_LIMIT": "many", "X_TITLE": " "})
    assert error.value.problems == ["X_LIMIT must be an integer", "X_TITLE is required"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://u:p%2F@h:1/0", ""),
        ("rediss://h", ""),
        ("redis+sentinel://u:p@h1:1,h2/main/2", ""),
        ("rediss+sentinel://h1/main", ""),
        ("redis+cluster://u:p@h1:1,[::1]:2", ""),
        ("rediss+cluster://h1:1/0", ""),
        ("redis+sentinel://h1:1/", "must be redis+sentinel://"),
        ("redis+sentinel://u:hunter/2@h1:1/main", "must be redis+sentinel://"),
        ("redis+cluster://u:hunter2@h1:1/1", "must not name a database"),
        ("redis://u:hunter2@h1:1,h2:2/0", "must name one host"),
        ("redis://h/main/0", "must be redis://"),
        ("http://h", "must be redis://"),
    ],
)
def test_a_url_of_redis_names_a_server_or_sentinels_or_a_cluster(url: str, problem: str) -> None:
    if not problem:
        assert load_settings(RedisSettings, "X_", {"X_REDIS_URL": url}).redis_url.reveal() == url
        return
    with pytest.raises(SettingsError, match=f"X_REDIS_URL {re.escape(problem)}") as error:
        load_settings(RedisSettings, "X_", {"X_REDIS_URL": url})
    assert "hunter" not in str(error.value)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"KAFKA_SASL_MECHANISM": "MD5"}, "X_KAFKA_SASL_MECHANISM must be one of SCRAM-SHA-512, "),
        ({"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USER": "u"}, "X_KAFKA_SASL_MECHANISM, "),
        ({"KAFKA_SASL_USER": "u", "KAFKA_SASL_PASSWORD": "p"}, "X_KAFKA_SASL_MECHANISM, "),
        (
            {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USER": "u", "KAFKA_SASL_PASSWORD": "p"},
            "X_KAFKA_SASL_MECHANISM PLAIN sends",
        ),
        ({"KAFKA_CA": "ca", "KAFKA_KEY": "k"}, "X_KAFKA_CERTIFICATE and X_KAFKA_KEY belong together"),
        ({"KAFKA_CERTIFICATE": "c", "KAFKA_KEY": "k"}, "X_KAFKA_CERTIFICATE needs X_KAFKA_CA"),
        ({"DATABASE_CA": "ca", "DATABASE_CERTIFICATE": "c"}, "X_DATABASE_CERTIFICATE and X_DATABASE_KEY belong"),
        ({"REDIS_URL": "rediss://h", "REDIS_CA": "ca", "REDIS_KEY": "k"}, "X_REDIS_CERTIFICATE and X_REDIS_KEY"),
        ({"REDIS_CA": "ca"}, "X_REDIS_CA has an effect only with a X_REDIS_URL that begins with rediss"),
    ],
)
def test_an_incomplete_login_is_refused(environ: dict[str, str], problem: str) -> None:
    given = {"X_BROKERS": "h:1", "X_DATABASE_URL": "postgresql://h/d", "X_REDIS_URL": "redis://h"}
    given |= {f"X_{name}": value for name, value in environ.items()}
    problems: list[str] = []
    for kind in (KafkaSettings, PostgresSettings, RedisSettings):
        try:
            load_settings(kind, "X_", given)
        except SettingsError as error:
            problems += error.problems
    (only,) = problems
    assert only.startswith(problem)


def test_a_complete_login_is_taken() -> None:
    login = {
        "X_KAFKA_SASL_MECHANISM": "PLAIN",
        "X_KAFKA_SASL_USER": "u",
        "X_KAFKA_SASL_PASSWORD": "p",
        "X_KAFKA_CA": "ca",
    }
    settings = load_settings(KafkaSettings, "X_", {"X_BROKERS": "h:1", **login})
    assert settings.kafka_sasl_password.reveal() == "p"
