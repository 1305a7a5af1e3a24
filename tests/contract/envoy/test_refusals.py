"""A refused REST request gets an error in JSON that names the field."""

import pytest
from google.protobuf.message import Message

from cli.file_values import unknown_field
from tests.contract.envoy.edge import Edge
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.routing.v1.routing_service_pb2 import ExplainRoutingRequest, RollbackRoutingRequest, SetRoutingRequest
from tocsin.routing.v1.routing_tree_pb2 import Correlation, InhibitionRule, Route, RoutingTree
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("path", ["/api/logs", "/api/silences", "/api/keys"])
@pytest.mark.parametrize("content_type", ["text/plain;application/json", "application/x-www-form-urlencoded", ""])
def test_a_web_page_sends_nothing_that_browsers_do_not_ask_for(edge: Edge, path: str, content_type: str) -> None:
    page = {"origin": "https://elsewhere.example", "content-type": content_type}
    refused = edge.all.post(path, "{}", page)
    assert (refused.status, refused.reason) == (400, "INVALID_REQUEST")
    assert "application/json" in refused.json["message"]
    # A browser asks before it sends JSON to another site, and is not answered. Programs send what they like.
    assert edge.all.send("OPTIONS", path, headers=page).status >= 400
    for allowed in (page | {"content-type": "application/json"}, {"content-type": content_type}):
        assert edge.all.post(path, "{}", allowed).status == 200


@pytest.mark.parametrize(
    ("path", "body", "field", "description"),
    [
        pytest.param("/api/alert-rules", {"severity": "dire"}, "severity", 'not "dire"', id="unknown severity"),
        pytest.param("/api/alert-rules", {"windowMinutes": "5m"}, "windowMinutes", "a 32-bit", id="text for minutes"),
        pytest.param(
            "/api/alert-rules",
            {"window": "5 min"},
            "window",
            'a duration in seconds such as "300s" is expected, not "5 min"',
            id="no duration",
        ),
        pytest.param("/api/alert-rules", {"window": "5s", "windowMinutes": 1}, "windowMinutes", "excludes", id="both"),
        pytest.param("/api/alerts/a/resolve", {"id": "b"}, "id", "path", id="another id than in the path"),
        pytest.param("/api/alert-rules", {"name": ["a"]}, "name", "a list", id="list for one value"),
        pytest.param(
            "/api/alert-rules", {"name": '"[\\', "threshold": [5]}, "threshold", "a list", id="list after quotes"
        ),
        pytest.param("/api/alert-rules", {"labels": ["a"]}, "labels", "a list", id="list for a map"),
        pytest.param("/api/alert-rules", {"labels": {"a": ["b"]}}, "labels[a]", "a list", id="list in a map"),
        pytest.param(
            "/api/alert-rules",
            {"labels": {"a": "b", "my_team": 1}},
            "labels[my_team]",
            "a string is expected, not 1",
            id="number in a map",
        ),
        pytest.param(
            "/api/catalog:apply",
            {"services": [{"labels": {"a": "b"}}, {"labels": {"c": "d", "e.f": True}}]},
            "services[1].labels[e.f]",
            "a string is expected, not true",
            id="boolean in a map in a list",
        ),
        pytest.param("/api/alert-rules", {"windowMinutes": 1.5}, "windowMinutes", "a 32-bit", id="fraction"),
        pytest.param("/api/alert-rules", {"name": 5}, "name", "a string", id="number for text"),
        pytest.param("/api/alert-rules", {"windowMinutes": {"a": 1}}, "windowMinutes", "an object", id="object"),
        pytest.param(
            "/api/alert-rules",
            {"groupBy": ["service"], "labels": {}, "threshold": [1]},
            "threshold",
            "a list",
            id="rule",
        ),
        pytest.param("/api/alert-rules", {"name": "x", "colour": "true"}, "colour", "filter", id="misspelt"),
        pytest.param(
            "/api/alert-rules:validate",
            {"fooBar": {"name": 1}},
            "fooBar",
            "unknown field; expected one of name, ",
            id="misspelt to check",
        ),
        pytest.param("/api/alert-rules", [{}], "body", "a list", id="list for a rule"),
        pytest.param("/api/alert-rules", [{"colour": 1}], "body", "a list", id="list for a rule with an unknown field"),
        pytest.param("/api/alert-rules", {"a.b": 1}, "a.b", "unknown field", id="dots"),
        pytest.param("/api/alert-rules", {"": 1}, "body", "unknown field", id="no name"),
        pytest.param("/api/alerts/a/acknowledge", {"actr": "ann"}, "actr", '"actor"', id="misspelt who"),
        pytest.param("/api/incidents/a/split", {"alerts": []}, "alerts", '"alertIds"', id="misspelt list"),
        pytest.param("/api/alert-rules/a/enable", {"requestId": "b"}, "requestId", "none here", id="no body"),
        pytest.param("/api/catalog:apply", {"service": []}, "service", '"services"', id="misspelt at the top"),
        pytest.param(
            "/api/silences", {"recurrence": {"zone": "UTC"}}, "recurrence.zone", '"time_zone"', id="misspelt inside"
        ),
        pytest.param(
            "/api/silences",
            {"endTime": "soon"},
            "endTime",
            'a time with its zone such as 2026-11-27T10:00:00Z is expected, not "soon"',
            id="no time",
        ),
        pytest.param("/api/changes", {"service": "a", "kind": "BUILD"}, "kind", "FEATURE_FLAG", id="unknown kind"),
        pytest.param("/api/changes", {"service": "a", "by": "me"}, "by", "actor", id="misspelt in a change"),
        pytest.param(
            "/api/catalog:apply",
            {"services": [{"name": "a", "dependOn": []}]},
            "services[0].dependOn",
            "dependsOn",
            id="misspelt in a list",
        ),
        pytest.param(
            "/api/catalog:apply",
            {"services": [{"dependsOn": ["b"], "owner": ["a"]}]},
            "services[0].owner",
            "a list",
            id="list in a list",
        ),
        pytest.param("/api/routing:explain", {"label": {"a": "b"}}, "label", "labels", id="misspelt beside a tree"),
        pytest.param(
            "/api/routing:explain",
            {"labels": {"root.x": "b"}, "tree": {"root": {"routes": [{"routes": [{"receiver": ["a"]}]}]}}},
            "tree.root.routes[0].routes[0].receiver",
            "receivers",
            id="misspelt in a route",
        ),
        pytest.param(
            "/api/routing:explain",
            {"tree": {"root": {"routes": [{"correlation": {"span": "1s"}}]}}},
            "tree.root.routes[0].correlation.span",
            "window",
            id="misspelt in a part of a route",
        ),
        pytest.param(
            "/api/routing:explain",
            {"tree": {"root": {}, "inhibitionRules": [{"sources": ["a=b"]}]}},
            "tree.inhibitionRules[0].sources",
            "source",
            id="misspelt in an inhibition rule",
        ),
        pytest.param(
            "/api/routing:explain",
            {"tree": {"root": {"receivers": ["a"], "routes": [{"policy": ["a"]}]}}},
            "tree.root.routes[0].policy",
            "a list",
            id="list in a route",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(
    edge: Edge, path: str, body: object, field: str, description: str
) -> None:
    answer = edge.all.post(path, body)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert (answer.json["code"], answer.reason) == (3, "INVALID_REQUEST")
    ((named, explanation),) = answer.violations
    assert named == field
    assert description in explanation
    assert field in answer.json["message"]
    assert not edge.ingest.calls + edge.manager.calls


@pytest.mark.parametrize("name", ["json_name", "name"])
def test_every_field_of_a_rule_is_known(edge: Edge, name: str) -> None:
    fields = [getattr(field, name) for field in AlertRule.DESCRIPTOR.fields]
    for method, path in (
        ("POST", "/api/alert-rules"),
        ("PUT", "/api/alert-rules/r"),
        ("PATCH", "/api/alert-rules/r?x=1"),
    ):
        for field in fields:
            answer = edge.all.send(method, path, {field: None})
            assert "unknown field" not in answer.text, field


@pytest.mark.parametrize(
    ("path", "message"), [("/api/alert-rules", AlertRule), ("/api/catalog/services/s", ServiceEntry)]
)
def test_what_is_said_of_an_unknown_field_is_what_the_command_line_says(
    edge: Edge, path: str, message: type[Message]
) -> None:
    known = {name for field in message.DESCRIPTOR.fields for name in (field.json_name, field.name)}
    odd = [f"{name[:-2]}{name[-1]}" for name in sorted(known)] + [
        "Group-By",
        "window_length",
        "naem",
        "n",
        "é",
        "colour",
    ]
    for name in set(odd) - known:
        answer = edge.all.send("PUT" if message is ServiceEntry else "POST", path, {name: 1})
        assert [text for _, text in answer.violations] == [unknown_field(name, message)]


@pytest.mark.parametrize("name", ["json_name", "name"])
def test_every_field_of_a_service_and_of_a_change_is_known(edge: Edge, name: str) -> None:
    for field in [getattr(field, name) for field in ServiceEntry.DESCRIPTOR.fields]:
        answer = edge.all.send("PUT", "/api/catalog/services/s", {field: None})
        assert "unknown field" not in answer.text, field
    for field in [getattr(field, name) for field in ServiceChange.DESCRIPTOR.fields]:
        assert "unknown field" not in edge.all.post("/api/changes?requestId=x", {field: None}).text, field
    answer = edge.all.send("PUT", "/api/catalog/services/s", {"dependsOn": ["b"], "ownr": "x"})
    assert answer.violations == [("ownr", 'unknown field; did you mean "owner"?')]


@pytest.mark.parametrize("name", ["json_name", "name"])
def test_every_field_of_a_routing_tree_is_known(edge: Edge, name: str) -> None:
    def fields(message: type[Message]) -> dict[str, None]:
        return {getattr(field, name): None for field in message.DESCRIPTOR.fields}

    rules = "inhibitionRules" if name == "json_name" else "inhibition_rules"
    route = fields(Route) | {"correlation": fields(Correlation)}
    tree = {"root": route | {"routes": [route | {"routes": [route]}]}, rules: [fields(InhibitionRule)]}
    for body in (fields(SetRoutingRequest) | {"tree": tree}, fields(SetRoutingRequest) | {"tree": fields(RoutingTree)}):
        assert "unknown field" not in edge.all.send("PUT", "/api/routing", body).text
    assert "unknown field" not in edge.all.post("/api/routing:rollback", fields(RollbackRoutingRequest)).text
    explained = edge.all.post("/api/routing:explain?x=1", fields(ExplainRoutingRequest) | {"tree": tree})
    assert "unknown field" not in explained.text


@pytest.mark.parametrize(
    "body",
    ['{"name":"a","type":', '{"name":"a" "type":"CUSTOM"}', '{"name":"a"} and more', "name=a"],
    ids=["cut off", "comma missing", "something follows", "a form"],
)
def test_invalid_json_is_refused_with_the_position(edge: Edge, body: str) -> None:
    answer = edge.all.post("/api/alert-rules", body)
    assert (answer.status, answer.json["code"], answer.reason) == (400, 3, "MALFORMED_MESSAGE")
    ((field, description),) = answer.violations
    assert field == "body"
    assert description.startswith("not valid JSON: ")
    assert "\n" not in description
    assert ", at" in description


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/alert-rules:validate", {"name": "r", "labels": {"team": {}}}, "labels"),
        ("/api/alert-rules", {"name": "r", "labels": {"team": {"name": "a"}}}, "labels"),
        ("/api/catalog:apply", {"services": [{"name": "s", "labels": {"a": {}}, "links": {"b": "c"}}]}, "labels"),
        ("/api/catalog:apply", {"services": [{"name": "s", "labels": {"a": "b"}, "links": {"c": {}}}]}, "links"),
        ("/api/routing:explain", {"labels": {"a": {}}}, "labels"),
    ],
)
def test_an_object_in_a_map_is_refused_with_its_field_although_the_transcoder_accepts_it(
    edge: Edge, path: str, body: object, field: str
) -> None:
    answer = edge.all.post(path, body)
    assert (answer.status, answer.reason) == (400, "INVALID_REQUEST")
    assert answer.violations == [(field, "one of its values is an object, not a string")]


@pytest.mark.parametrize("path", ["/api/alert-rules?pageToken=%FF", "/api/alert-rules/%FF", "/api/alerts?resource=%FF"])
def test_a_path_that_is_not_utf_8_is_not_reported_as_a_wrong_body(edge: Edge, path: str) -> None:
    answer = edge.all.get(path)
    assert (answer.status, answer.reason) == (400, "INVALID_REQUEST")
    assert answer.violations == [("request", "its path or its query is not UTF-8")]


def test_a_body_that_is_not_utf_8_is_not_json(edge: Edge) -> None:
    answer = edge.all.post("/api/alert-rules", b'{"name":"a\xff","type":"CUSTOM"}')
    assert (answer.status, answer.reason) == (400, "MALFORMED_MESSAGE")


def test_a_long_wrong_value_is_shortened_in_the_response(edge: Edge) -> None:
    answer = edge.all.post("/api/alert-rules", {"severity": "ä" * 100_000})
    assert answer.violations[0][0] == "severity"
    assert len(answer.content) < 3000


def test_quotes_and_control_characters_of_the_request_do_not_break_the_response(edge: Edge) -> None:
    answer = edge.all.post("/api/alert-rules", {"severity": '"\\\n\t\x01é'})
    assert answer.violations[0][0] == "severity"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("states=BURNING", "states"),
        ("pageSize=many", "pageSize"),
        ("firedAfter=today", "firedAfter"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_or_unknown_query_parameter_is_named(edge: Edge, query: str, field: str) -> None:
    answer = edge.all.get(f"/api/alerts?{query}")
    assert answer.status == 400
    assert [named for named, _ in answer.violations] == [field]
    assert "llegal" not in answer.text


@pytest.mark.parametrize(
    ("path", "wrong", "hint"),
    [
        ("/api/alerts?state=FIRING", "state", 'did you mean "states"?'),
        ("/api/alerts?rule_nam=x&states=FIRING", "ruleNam", 'did you mean "ruleName"?'),
        ("/api/alerts?colour=red", "colour", "expected one of pageSize, "),
        ("/api/circuit-breakers?x=1", "x", "there is none here"),
    ],
)
def test_of_an_unknown_query_parameter_the_nearest_is_named(edge: Edge, path: str, wrong: str, hint: str) -> None:
    ((named, text),) = edge.all.get(path).violations
    assert named == wrong
    assert text.startswith(f"there is no such query parameter; {hint}")
