"""Routing trees in files, as people write them."""

from datetime import timedelta
from typing import Any

import pytest
import yaml

from cli.routing.tree_file import file_field, read_tree, span_text, tree_document
from services.contract.timestamps import duration_of
from services.manager.messages.routing import read_routing_tree
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree

FILE = """
receivers: [operators]
policy: all
routes:
- matchers: ['team="shop"', a=b]
  receivers: []
  continue: true
  correlation:
    labels: [cluster]
    window: 1h30m
  bundling: 1m30s
  inhibitDependents: true
  routes:
  - matchers: [severity=HIGH]
    receivers: [shop_chat, shop_mail]
    policy: ''
    correlation:
      labels: []
    inhibitDependents: false
inhibition:
- source: [severity=CRITICAL]
  target: [severity=LOW]
  equal: [service]
- source: [a=b]
  target: [c=d]
"""


def test_a_file_becomes_a_tree_and_comes_back() -> None:
    document = yaml.safe_load(FILE)
    tree, problems = read_tree(document)
    assert problems == []
    assert tree_document(tree) == document
    root = tree.root
    assert (list(root.receivers), root.policy, root.HasField("inhibits_dependents")) == (["operators"], "all", False)
    shop = root.routes[0]
    assert (shop.without_receivers, shop.continues, shop.bundling_interval.seconds) == (True, True, 90)
    assert (list(shop.correlation.labels), shop.correlation.window.seconds) == (["cluster"], 5400)
    below = shop.routes[0]
    assert below.HasField("policy")
    assert (below.policy, below.correlation.without_labels, below.HasField("inhibits_dependents")) == ("", True, True)
    assert list(tree.inhibition_rules[0].equal) == ["service"]
    assert read_routing_tree(tree)[1] == []


def test_a_text_stands_for_a_list_of_one_and_an_empty_field_for_nothing() -> None:
    tree, problems = read_tree({"receivers": "operators", "matchers": "a=b", "policy": None, "routes": None})
    assert problems == []
    assert tree == RoutingTree(root=Route(receivers=["operators"], matchers=["a=b"]))


def nested(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(levels):
        tree = {"routes": [tree]}
    return tree


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ("a", [("the file", 'expected a route with matchers, receivers, …, found "a"')]),
        ({"receiver": []}, [("receiver", 'unknown field; did you mean "receivers"?')]),
        ({"routes": [{"inhibition": []}]}, [("routes[0].inhibition", "unknown field")]),
        ({"routes": {}}, [("routes", "expected a list of routes, found a mapping")]),
        ({"routes": [None]}, [("routes[0]", "expected a route with matchers, receivers, …, found nothing")]),
        ({"receivers": [["a"]]}, [("receivers[0]", "expected a string, found a list")]),
        ({"receivers": {"a": 1}}, [("receivers", "expected a text or a list of texts, found a mapping")]),
        ({"policy": []}, [("policy", "expected a string, found a list")]),
        ({"policy": "\ud800"}, [("policy", "has characters that UTF-8 cannot hold")]),
        ({"continue": "yes"}, [("continue", 'expected true or false, found "yes"')]),
        ({"bundling": 60}, [("bundling", "expected a duration with its unit, such as 90s, 2m or 1h30m, found 60")]),
        (
            {"correlation": {"labels": 1, "span": 2}},
            [("correlation.span", "unknown"), ("correlation.labels", "a text")],
        ),
        ({"correlation": []}, [("correlation", "expected labels and window, found a list")]),
        ({"inhibition": "a"}, [("inhibition", 'expected a list of rules, found "a"')]),
        ({"inhibition": [{"sources": []}]}, [("inhibition[0].sources", 'did you mean "source"')]),
    ],
)
def test_each_problem_names_its_field(values: Any, problems: list[tuple[str, str]]) -> None:
    _, found = read_tree(values)
    assert [field for field, _ in found] == [field for field, _ in problems]
    assert all(expected in text for (_, text), (_, expected) in zip(found, problems, strict=True))


def test_a_tree_that_is_too_deep_is_a_problem_and_no_crash() -> None:
    ((_, problem),) = read_tree(nested(500))[1]
    assert problem == "is deeper than 20 levels"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("tree.root.routes[0].bundlingInterval", "routes[0].bundling"),
        ("tree.root.receivers[1]", "receivers[1]"),
        ("tree.root.routes[2].withoutReceivers", "routes[2].receivers"),
        ("tree.root.correlation.withoutLabels", "correlation.labels"),
        ("tree.root.routes[0].matchers[1]", "routes[0].matchers[1]"),
        ("tree.inhibitionRules[3].source", "inhibition[3].source"),
        ("tree.inhibitionRules", "inhibition"),
        ("tree.root", "the file"),
        ("tree", "tree"),
        ("comment", "comment"),
    ],
)
def test_fields_of_the_server_become_those_of_the_file(field: str, expected: str) -> None:
    assert file_field(field) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1m30s"), (600, "10m"), (5400, "1h30m"), (86_400, "1d"), (1.5, "1.5s"), (0, "0s")]
)
def test_a_span_is_written_as_a_file_has_it(seconds: float, text: str) -> None:
    assert span_text(duration_of(timedelta(seconds=seconds))) == text
