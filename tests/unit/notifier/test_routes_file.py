"""What a routes file may say, and how each mistake is named."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.domain.severity import Severity
from services.notifier.core.channels.email import EmailSettings
from services.notifier.core.channels.pagerduty import PagerDutySettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.channels.webhook import WebhookSettings
from services.notifier.core.routes_file import RoutesError
from services.notifier.core.routing import Routes
from services.notifier.settings import load_routes
from tests.unit.notifier.routes_documents import (
    ENVIRON,
    EXAMPLE,
    Change,
    document,
    drop,
    problems,
    read,
    set_in,
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "routes: []\nchannels: {}\nroutes: [1]\n",
            'line 3, column 1: duplicate key "routes", first used in line 1',
        ),
        ("channels:\n  slack: {url: a, kind: slack, url: b}\n", 'duplicate key "url"'),
        ("routes: {a: 1\n", "line 2, column 1: the mapping in braces is not closed, or a comma is missing"),
        ("routes: []\n---\nroutes: []\n", "holds 2 documents; there must be one"),
        ("", "the file: expected a mapping with channels, receivers, routes, found nothing"),
    ],
)
def test_what_would_be_passed_over_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "routes.yaml").write_text(text)
    with pytest.raises(RoutesError, match=re.escape(problem)):
        load_routes(tmp_path / "routes.yaml", ENVIRON)


def test_the_example_is_valid_and_says_what_it_should() -> None:
    routes = load_routes(EXAMPLE, ENVIRON)
    routed = {severity.name: routes.route(severity, {})[0] for severity in Severity}
    assert routed == {
        "CRITICAL": ("pagerduty", "slack", "email"),
        "HIGH": ("slack", "email"),
        "MEDIUM": ("slack",),
        "LOW": ("webhook",),
    }
    assert routes.fallbacks["slack"] == ("email", "webhook")
    kinds = {name: type(spec.settings) for name, spec in routes.channels.items()}
    assert kinds == {
        "pagerduty": PagerDutySettings,
        "slack": SlackSettings,
        "email": EmailSettings,
        "webhook": WebhookSettings,
    }


def test_the_defaults_lead_to_the_vendor() -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "PAGERDUTY_URL"}
    kind = read(document(), environ).channels["pagerduty"].settings
    assert isinstance(kind, PagerDutySettings)
    assert kind.url == "https://events.pagerduty.com/v2/enqueue"


def test_what_is_missing_in_the_environment_is_reported_whole() -> None:
    found = problems(document(), environ={})
    assert [problem for problem in found if "not set" in problem] == found
    assert len(found) == 9


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            set_in("extra", to=1), "extra: unknown field; expected one of channels, receivers, routes", id="unknown top"
        ),
        pytest.param(
            set_in("channels", to=[]),
            "channels: expected a mapping whose keys are strings, found a list",
            id="channels a list",
        ),
        pytest.param(set_in("channels", to={}), "channels: names no channel", id="no channels"),
        pytest.param(drop("channels", "webhook"), "'webhook' cannot be used here", id="unknown fallback"),
        pytest.param(
            set_in("channels", "slack", "fallback", to="slack"),
            "'slack' cannot be used here",
            id="its own fallback",
        ),
        pytest.param(
            set_in("channels", "slack", to="x"),
            "channels.slack: expected a mapping whose keys are strings, found",
            id="channel a string",
        ),
        pytest.param(
            set_in("channels", "slack", "kind", to="teams"),
            'channels.slack.kind: expected one of slack, pagerduty, webhook, email, found "teams"',
            id="unknown kind",
        ),
        pytest.param(
            set_in("channels", "slack", "colour", to="red"),
            "channels.slack.colour: unknown field; expected one of ",
            id="unknown field",
        ),
        pytest.param(
            set_in("channels", "slack", "url", to="https://hooks.slack.com/services/T/B/secret"),
            "no secret in this file",
            id="a secret in the file",
        ),
        pytest.param(
            set_in("channels", "slack", "url", to="${SLACK_WEBHOOK_URL:-x}"), "no secret in this file", id="its default"
        ),
        pytest.param(
            set_in("channels", "slack", "workers", to=0),
            "channels.slack.workers: expected a number above 0 and at most 64, found 0",
            id="no workers",
        ),
        pytest.param(
            set_in("channels", "slack", "timeout", to="long"),
            'slack.timeout: expected a number above 0 and at most 60, found "long"',
            id="no time",
        ),
        pytest.param(
            set_in("channels", "slack", "timeout", to=[1]),
            "timeout: expected a string, found a list",
            id="a list for a number",
        ),
        pytest.param(set_in("channels", "Slack!", to={}), "'Slack!' must be lower-case", id="a strange name"),
        pytest.param(set_in("channels", "webhook", "url", to="ftp://x"), "webhook.url: must be an http", id="no http"),
        pytest.param(set_in("channels", "webhook", "url", to="http://[x"), "webhook.url: must be an http", id="no url"),
        pytest.param(set_in("channels", "webhook", "url", to=""), "channels.webhook.url: is required", id="no address"),
        pytest.param(
            set_in("channels", "webhook", "allow_private", to="maybe"),
            'allow_private: expected true or false, found "maybe"',
            id="no flag",
        ),
        pytest.param(
            set_in("channels", "email", "port", to=99999),
            "channels.email.port: expected a number above 0 and at most 65535, found 99999",
            id="no port",
        ),
        pytest.param(
            set_in("channels", "email", "to", to=[1]),
            "channels.email.to: expected a string or a list of strings",
            id="no strings",
        ),
        pytest.param(
            set_in("channels", "email", "to", to="a@b, c"), "email.to: must be mail addresses", id="no address"
        ),
        pytest.param(
            drop("channels", "email", "to"),
            "email.to: expected a string or a list of strings, found nothing",
            id="nobody",
        ),
        pytest.param(set_in("channels", "email", "to", to=" , "), "email.to: is required", id="an empty list"),
        pytest.param(set_in("channels", "email", "from", to="x\r\ny@z"), "email.from: must be mail", id="a line break"),
        pytest.param(
            set_in("channels", "slack", "url_file", to="nowhere"), "slack.url_file: cannot be read", id="no such file"
        ),
        pytest.param(set_in("channels", "slack", "url_file", to=""), "slack.url_file: is required", id="no path"),
        pytest.param(set_in("channels", "slack", "url_file", to="empty"), "slack.url_file: is empty", id="empty file"),
        pytest.param(
            set_in("receivers", to=["slack"]),
            "receivers: expected a mapping whose keys are strings, found a list",
            id="receivers a list",
        ),
        pytest.param(set_in("receivers", to={"Ops!": "slack"}), "receivers: 'Ops!' must be lower-case", id="its name"),
        pytest.param(set_in("receivers", to={"slack": "email"}), "receivers.slack: has the name of", id="as a channel"),
        pytest.param(
            set_in("receivers", to={"ops": []}),
            "receivers.ops: expected a string or a list of strings, found a list",
            id="of nothing",
        ),
        pytest.param(set_in("receivers", to={"ops": "sms"}), "receivers.ops: 'sms' cannot be used", id="of no channel"),
        pytest.param(
            set_in("receivers", to={f"r{number}": "slack" for number in range(197)}),
            "there are 201 with the channels; 200 are allowed",
            id="too many receivers",
        ),
        pytest.param(set_in("routes", to={}), "routes: expected a list, found a mapping", id="routes a mapping"),
        pytest.param(
            set_in("routes", to=["x"]),
            "routes[0]: expected a mapping whose keys are strings, found",
            id="route a string",
        ),
        pytest.param(set_in("routes", to=[]), "routes: no route without", id="a severity goes to nobody"),
        pytest.param(lambda found: found["routes"][3].update(labels={"team": "a"}), "takes LOW", id="only some labels"),
        pytest.param(
            lambda found: found["routes"][0].update(x=1),
            "routes[0].x: unknown field; expected one of severity, labels, channels",
            id="unknown in route",
        ),
        pytest.param(
            lambda found: found["routes"][0].update(severity="URGENT"),
            'expected one of CRITICAL, HIGH, MEDIUM, LOW, found "URGENT"',
            id="severity",
        ),
        pytest.param(
            lambda found: found["routes"][0].update(channels=["teams"]),
            "'teams' cannot be used here",
            id="no channel",
        ),
        pytest.param(
            lambda found: found["routes"][0].update(channels=[]),
            "expected a string or a list of strings",
            id="no channels",
        ),
        pytest.param(
            lambda found: found["routes"][0].update(labels={1: "a"}),
            "labels: expected a mapping whose keys are strings",
            id="labels",
        ),
    ],
)
def test_each_mistake_is_named(change: Change, expected: str) -> None:
    changed = document()
    change(changed)
    found = problems(changed, files={"empty": "\n"})
    assert any(expected in problem for problem in found), found
    assert "secret" not in " ".join(found).replace("no secret in this file", "")


def test_of_a_misspelt_field_the_meant_one_is_named() -> None:
    changed = document()
    changed["receiver"] = changed["channels"]["slack"]["urll"] = changed["routes"][0]["channel"] = {}
    assert [problem for problem in problems(changed) if "unknown field" in problem] == [
        'receiver: unknown field; did you mean "receivers"?',
        'channels.slack.urll: unknown field; did you mean "url"? (kind slack)',
        'routes[0].channel: unknown field; did you mean "channels"?',
    ]


def test_a_file_that_is_no_mapping_is_refused() -> None:
    assert "the file: expected a mapping with channels, receivers, routes, found a list" in problems(["x"])


@pytest.mark.parametrize(
    ("url", "is_private"),
    [
        ("https://127.0.0.1:9/hook", True),
        ("https://[::1]/hook", True),
        ("https://localhost/hook", True),
        ("https://hooks.localhost/hook", True),
        ("https://93.184.215.14/hook", False),
        ("https://hooks.example/hook", False),
    ],
)
def test_a_webhook_that_can_never_work_is_refused_with_the_file(url: str, *, is_private: bool) -> None:
    changed = document()
    changed["channels"]["webhook"] |= {"url": url, "allow_private": False}
    if is_private:
        [problem] = problems(changed)
        assert problem.startswith("channels.webhook.url: leads to an address inside a private network; allow_private:")
    else:
        read(changed)
    changed["channels"]["webhook"]["allow_private"] = True
    assert read(changed).channels["webhook"].settings.recipient == url.removesuffix("/hook")


def test_receivers_are_lists_of_channels_and_need_no_routes() -> None:
    changed = document()
    del changed["routes"]
    changed["receivers"] = {"ops": ["slack", "email", "slack"], "boss": "email"}
    found = read(changed)
    assert (found.receivers, found.routes) == ({"ops": ("slack", "email"), "boss": ("email",)}, ())


def test_labels_may_list_their_values() -> None:
    changed = document()
    changed["routes"].insert(0, {"severity": ["LOW", "HIGH"], "labels": {"team": ["a", "b"]}, "channels": "email"})
    assert read(changed).route(Severity.LOW, {"team": "b"})[0] == ("email",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"channels: [", "line 1, column 12: a value is missing here", id="no YAML"),
        pytest.param(b"\xff\xfe\xff", "the file is not text in UTF-8", id="no text"),
        pytest.param(b"a: \x01", "line 1, column 4: a control character", id="control characters"),
        pytest.param(None, "cannot be read: No such file or directory", id="no file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "routes.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RoutesError, match=expected):
        load_routes(path, {})


def test_files_beside_the_routes_file_are_found(tmp_path: Path) -> None:
    changed = document()
    changed["channels"]["slack"] = {"kind": "slack", "url_file": "slack.txt"}
    (tmp_path / "slack.txt").write_text("https://hooks.slack.com/services/x")
    (tmp_path / "routes.yaml").write_text(yaml.safe_dump(changed))
    assert load_routes(tmp_path / "routes.yaml", ENVIRON).channels["slack"].settings == SlackSettings(
        url="https://hooks.slack.com/services/x"
    )


def test_labels_need_no_severity() -> None:
    changed = document()
    changed["routes"].insert(0, {"labels": {"team": "a"}, "channels": "email"})
    routes = read(changed)
    assert {routes.route(severity, {"team": "a"})[0] for severity in Severity} == {("email",)}
    assert routes.route(Severity.LOW, {"team": "b"})[0] == ("webhook",)


@pytest.mark.parametrize("labels", [{}, {"labels": {}}])
def test_a_route_without_labels_needs_a_severity(labels: dict[str, Any]) -> None:
    changed = document()
    changed["routes"].insert(0, {"channels": "email"} | labels)
    assert problems(changed) == ["routes[0].severity: expected a string or a list of strings, found nothing"]


def tenants_document() -> dict[str, Any]:
    """Return a file with a channel of another tenant, a receiver of it and its routes."""
    found = document()
    found["channels"]["theirs"] = found["channels"]["webhook"] | {"tenant": "acme"}
    found["receivers"] = {"duty": ["theirs"], "ours": ["slack"]}
    found["routes"].append({"severity": ["LOW", "MEDIUM", "HIGH", "CRITICAL"], "channels": ["theirs"]})
    return found


def test_channels_belong_to_tenants_and_receivers_and_routes_to_those_of_their_channels() -> None:
    routes = read(tenants_document())
    acme, ours = routes.of_tenant("acme"), routes.of_tenant("default")
    assert set(acme.all_receivers) == {"theirs", "duty"}
    assert acme.resolve(["duty", "slack", "ours"]) == (("theirs",), ("slack", "ours"))
    assert acme.route(Severity.LOW, {})[0] == ("theirs",)
    assert set(ours.all_receivers) == set(document()["channels"]) | {"ours"}
    assert "theirs" not in {channel for route in ours.routes for channel in route.channels}
    assert routes.of_tenant("nobody") == Routes(channels={})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(
            lambda found: found["receivers"]["duty"].append("slack"), "receivers.duty: channels of", id="receiver"
        ),
        pytest.param(
            lambda found: found["channels"]["theirs"].update(fallback=["slack"]),
            "theirs.fallback: channels of",
            id="fallback",
        ),
        pytest.param(
            lambda found: found["routes"][0]["channels"].append("theirs"), "routes[0].channels: channels of", id="route"
        ),
        pytest.param(
            lambda found: found["routes"][-1].update(severity="LOW"),
            "of tenant acme takes CRITICAL",
            id="an alert of theirs",
        ),
        pytest.param(
            lambda found: found["channels"]["theirs"].update(tenant="Acme!"), "theirs.tenant: must be", id="name"
        ),
    ],
)
def test_no_channel_of_one_tenant_stands_for_anothers(change: Change, problem: str) -> None:
    found = tenants_document()
    change(found)
    assert any(problem in each for each in problems(found))
