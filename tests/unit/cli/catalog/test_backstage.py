"""Backstage's descriptor files as entries of the catalog."""

from typing import Any

import yaml

from cli.catalog.entries import FileEntries, read_entries
from cli.output import json_of

COMPONENT = """
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: payment-service
  title: Payments
  description: Takes payments.
  annotations:
    backstage.io/source-location: url:https://git.example/payments/
    backstage.io/managed-by-location: url:https://git.example/payments/catalog-info.yaml
    backstage.io/techdocs-ref: dir:.
    example.com/runbook-url: https://wiki.example/payments
    github.com/project-slug: shop/payments
    pagerduty.com/service-id: P1
  labels: {example.com/tier: "1", team: pay}
  tags: [java, money]
  links:
    - {url: https://grafana.example/d/1, title: Dashboard}
    - {url: https://grafana.example/d/2, title: Dashboard}
    - {url: https://x.example, type: admin}
    - {url: https://y.example}
spec:
  type: service
  lifecycle: production
  owner: group:default/payments
  dependsOn: [component:default/ledger, resource:default/pay-db, component:bank, api:default/rates, plain]
"""


def read(*values: Any) -> FileEntries:
    return read_entries([yaml.safe_load(each) if isinstance(each, str) else each for each in values])


def component(**parts: Any) -> Any:
    return {"apiVersion": "backstage.io/v1beta1", "kind": "Component", "metadata": {"name": "a"}, "spec": {}} | parts


def test_a_component_is_an_entry() -> None:
    found = read(COMPONENT)
    (entry,) = found.entries
    assert entry.problems == []
    assert {name: value for name, value in json_of(entry.entry).items() if value} == {
        "name": "payment-service",
        "owner": "payments",
        "tier": "1",
        "description": "Takes payments.",
        "links": {
            "Dashboard": "https://grafana.example/d/1",
            "Dashboard 2": "https://grafana.example/d/2",
            "admin": "https://x.example",
            "link": "https://y.example",
            "repository": "https://git.example/payments/",
            "runbook": "https://wiki.example/payments",
        },
        "labels": {"lifecycle": "production", "tags": "java,money", "example.com/tier": "1", "team": "pay"},
        "dependsOn": ["bank", "ledger", "pay-db", "plain"],
    }
    assert [(each.field, each.description) for each in found.skipped] == [
        ("services[0].spec.dependsOn[3]", "api is neither component nor resource: skipped")
    ]


def test_other_kinds_are_skipped_and_said() -> None:
    found = read(
        COMPONENT, component(kind="API", metadata={"name": "rates"}), component(kind="Location", metadata=None)
    )
    assert len(found.entries) == 1
    assert [(each.field, each.description) for each in found.skipped[1:]] == [
        ("services[1]", "API rates is not a Component of Backstage: skipped"),
        ("services[2]", "Location is not a Component of Backstage: skipped"),
    ]


def test_owners_keep_a_namespace_that_is_not_the_default_one() -> None:
    owners = [
        read(component(spec={"owner": owner})).entries[0].entry.owner for owner in ("a", "user:x/jane", "default/b")
    ]
    assert owners == ["a", "x/jane", "b"]


def test_all_that_cannot_be_read_of_a_component_is_named() -> None:
    found = read(
        component(metadata=["a"], spec=None),
        component(metadata={"name": "b", "links": ["x", {"title": "t"}]}, spec={"dependsOn": "c"}),
        component(metadata={"name": ["c"], "links": {}}, spec={"dependsOn": [7, "component:"]}),
        component(metadata={"name": "d", "links": "x", "labels": "y", "tags": "z"}),
    )
    assert [[name for name, _ in each.problems] for each in found.entries] == [
        ["metadata", "spec"],
        ["spec.dependsOn", "metadata.links[0]", "metadata.links[1]"],
        ["spec.dependsOn[0]", "spec.dependsOn[1]", "name"],
        ["metadata.links"],
    ]
