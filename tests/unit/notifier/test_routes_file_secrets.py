"""Secrets of a routes file: where they may lie, and that nobody is shown them."""

from datetime import timedelta

import pytest

from services.notifier.core.channels.email import EmailSettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.channels.webhook import WebhookSettings
from services.notifier.settings import load_routes
from tests.unit.notifier.routes_documents import ENVIRON, EXAMPLE, SECRETS, document, problems, read


def test_no_secret_is_in_the_repr_of_the_routes() -> None:
    shown = repr(load_routes(EXAMPLE, ENVIRON))
    assert [name for name in SECRETS if ENVIRON[name] in shown] == []


def test_a_variable_may_lie_in_the_file_that_another_one_names() -> None:
    in_files = {"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x", "SMTP_PASSWORD": "p"}
    environ = {name: value for name, value in ENVIRON.items() if name not in in_files}
    environ |= {f"{name}_FILE": name.lower() for name in in_files}
    files = {name.lower(): f"{value}\n" for name, value in in_files.items()}
    channels = read(document(), environ, files).channels
    assert isinstance(slack := channels["slack"].settings, SlackSettings)
    assert isinstance(email := channels["email"].settings, EmailSettings)
    assert (slack.url, email.password) == tuple(in_files.values())


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SLACK_WEBHOOK_URL": "secret"}, ", which is set beside SLACK_WEBHOOK_URL_FILE; set one of them"),
        ({"SLACK_WEBHOOK_URL_FILE": "secret"}, ", but the file of SLACK_WEBHOOK_URL_FILE cannot be read"),
        ({"SLACK_WEBHOOK_URL_FILE": "empty"}, ", but the file of SLACK_WEBHOOK_URL_FILE is empty"),
    ],
)
def test_a_variable_whose_file_is_wrong_is_named_once(environ: dict[str, str], problem: str) -> None:
    others = {name: value for name, value in ENVIRON.items() if name != "SLACK_WEBHOOK_URL"}
    found = problems(document(), environ=others | {"SLACK_WEBHOOK_URL_FILE": "u"} | environ, files={"empty": " "})
    assert found == [f"channels.slack.url: refers to SLACK_WEBHOOK_URL{problem}"]


def test_a_login_that_may_be_absent_may_lie_in_a_file_too() -> None:
    changed = document()
    changed["channels"]["email"]["password"] = "${SMTP_PASSWORD:-}"
    changed["channels"]["email"]["username"] = "${SMTP_USERNAME:-}"
    others = {name: value for name, value in ENVIRON.items() if name not in {"SMTP_PASSWORD", "SMTP_USERNAME"}}
    settings = read(changed, others).channels["email"].settings
    assert isinstance(settings, EmailSettings)
    assert settings.password == ""
    in_files = others | {"SMTP_PASSWORD_FILE": "p", "SMTP_USERNAME_FILE": "u"}
    settings = read(changed, in_files, {"p": "secret", "u": "name"}).channels["email"].settings
    assert isinstance(settings, EmailSettings)
    assert (settings.username, settings.password) == ("name", "secret")
    found = problems(changed, environ=in_files, files={"u": "name"})
    assert (
        "channels.email.password: refers to SMTP_PASSWORD, but the file of SMTP_PASSWORD_FILE cannot be read" in found
    )


def test_no_problem_shows_the_value_of_a_secret() -> None:
    environ = dict.fromkeys(ENVIRON, "\x00not usable") | {"SLACK_WEBHOOK_URL": "hidden-value"}
    assert [problem for problem in problems(document(), environ=environ) if "hidden-value" in problem] == []


def test_a_secret_may_lie_in_a_file_and_numbers_may_be_numbers() -> None:
    changed = document()
    changed["channels"]["slack"] = {
        "kind": "slack",
        "url_file": "slack.txt",
        "workers": 2,
        "timeout": 1.5,
        "fallback": "email",
    }
    changed["channels"]["webhook"]["allow_private"] = True
    routes = read(changed, files={"slack.txt": "https://hooks.slack.com/services/x\n"})
    spec = routes.channels["slack"]
    assert spec.settings == SlackSettings(url="https://hooks.slack.com/services/x")
    assert (spec.workers, spec.timeout, spec.fallback) == (2, timedelta(seconds=1.5), ("email",))
    assert routes.channels["webhook"].settings == WebhookSettings(
        url=ENVIRON["WEBHOOK_URL"], signing_key=ENVIRON["WEBHOOK_SIGNING_KEY"], allow_private=True
    )


@pytest.mark.parametrize("reference", [None, "", "${SMTP_LOGIN:-}"])
def test_a_mail_server_may_need_no_login(reference: str | None) -> None:
    changed = document()
    for name in ("username", "password"):
        changed["channels"]["email"][name] = reference
    settings = read(changed).channels["email"].settings
    assert isinstance(settings, EmailSettings)
    assert (settings.username, settings.password) == ("", "")


@pytest.mark.parametrize(("left_out", "named"), [("username", "username"), ("password", "password")])
def test_half_a_login_is_a_mistake(left_out: str, named: str) -> None:
    changed = document()
    del changed["channels"]["email"][left_out]
    assert problems(changed) == [f"channels.email.{named}: is required: a login has both"]


def test_an_optional_login_may_be_set_and_is_never_in_the_file() -> None:
    changed = document()
    changed["channels"]["email"]["username"] = "${SMTP_USERNAME:-}"
    settings = read(changed).channels["email"].settings
    assert isinstance(settings, EmailSettings)
    assert settings.username == ENVIRON["SMTP_USERNAME"]
    changed["channels"]["email"]["username"] = "ann"
    assert "must be a reference" in problems(changed)[0]


def test_a_secret_that_is_absent_is_not_said_to_be_in_the_file() -> None:
    changed = document()
    del changed["channels"]["webhook"]["signing_key"]
    (problem,) = problems(changed)
    assert problem == (
        "channels.webhook.signing_key: is required: a reference ${NAME}, or signing_key_file with a path"
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://hooks.slack.com/services/T/B/secret", "https://hooks.slack.com"),
        ("https://user:secret@example.com:8443/x?key=secret#secret", "https://example.com:8443"),
        ("http://[::1]:9000/secret", "http://[::1]:9000"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, address: str) -> None:
    assert SlackSettings(url=url).recipient == address


def test_a_mails_recipients_are_shown() -> None:
    settings = read(document()).channels["email"].settings
    assert settings.recipient == "on-call@example.com"


def test_other_channels_are_shown_without_secrets_too() -> None:
    channels = read(document()).channels
    assert [channels[name].settings.recipient for name in ("pagerduty", "webhook")] == ["http://127.0.0.1:9300"] * 2


def test_an_optional_login_may_lie_in_a_file() -> None:
    changed = document()
    del changed["channels"]["email"]["username"]
    changed["channels"]["email"]["username_file"] = "name.txt"
    settings = read(changed, files={"name.txt": "ann\n"}).channels["email"].settings
    assert isinstance(settings, EmailSettings)
    assert settings.username == "ann"
