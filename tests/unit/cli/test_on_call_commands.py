"""On-call on the command line, against the real service on a store in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.manager.core.on_call_records import OnCallKind
from tests.fakes.edge import Edge
from tests.fakes.routing import a_stored_tree, a_tree
from tests.unit.cli.commands import Command, error_of

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "on_call.md"
DOCUMENT = """
people:
- {name: ann, displayName: Ann Okoye, receivers: [ann-pager, ann-mail], timeZone: Europe/Berlin}
- {name: ben, receivers: ben-pager}
schedules:
- name: payments
  timeZone: Europe/Berlin
  layers:
  - {name: week, people: [ann, ben], rotation: weekly, startTime: 2025-12-29T09:00:00}
  - name: nights
    people: [ben]
    rotation: CUSTOM
    turnLength: 12h
    start_time: 2026-01-01
    hours:
    - {weekdays: [MONDAY, friday], start: 22:00, end: 24:00}
    - {weekdays: SUNDAY, start: 9:30, end: "12:00"}
policies:
- name: urgent
  steps:
  - {schedules: [payments], minSeverity: high, hours: [{start: 09:00, end: 17:00}]}
  - {delay: 5m, people: [ann], receivers: [chat]}
  repeatCount: 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "oncall.yaml"
    path.write_text(DOCUMENT)
    return path


def applied(tocsin: Command, file: Path, *options: str) -> list[dict[str, Any]]:
    done = tocsin("oncall", "apply", str(file), *options, "-o", "json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def changes(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["change"], each["name"]) for each in found]


def test_a_file_is_applied_and_exported_and_applied_again(
    tocsin: Command, edge: Edge, file: Path, tmp_path: Path
) -> None:
    names = ["person ann", "person ben", "schedule payments", "policy urgent"]
    created = [("created", name) for name in names]
    assert changes(applied(tocsin, file, "--dry-run")) == created
    assert edge.store.tables.on_call.records == {}
    assert changes(applied(tocsin, file)) == created
    assert changes(applied(tocsin, file)) == [("unchanged", name) for name in names]
    exported = tmp_path / "exported.yaml"
    exported.write_text(tocsin("oncall", "export").stdout)
    assert changes(applied(tocsin, exported)) == [("unchanged", name) for name in names]
    document = yaml.safe_load(exported.read_text())
    assert document["schedules"][0]["layers"][1]["hours"] == [
        {"weekdays": ["MONDAY", "FRIDAY"], "start": "22:00", "end": "24:00"},
        {"weekdays": ["SUNDAY"], "start": "09:30", "end": "12:00"},
    ]


def test_the_example_of_the_documentation_is_applied(tocsin: Command, file: Path) -> None:
    file.write_text(DOCUMENTATION.read_text().split("```yaml\n")[1].partition("```")[0])
    assert {each["change"] for each in applied(tocsin, file)} == {"created"}


def test_only_what_a_file_changes_is_a_difference(tocsin: Command, file: Path) -> None:
    done = tocsin("oncall", "apply", str(file))
    assert "warning: policies[0].fallbackReceivers (urgent): is empty" in " ".join(done.stderr.split())
    file.write_text(DOCUMENT.replace("repeatCount: 2", "repeatCount: 1").replace("ben-pager", "ben-mail"))
    found = applied(tocsin, file)
    assert [each["differences"] for each in found if each["change"] == "updated"] == [
        [{"field": "receivers", "before": ["ben-pager"], "after": ["ben-mail"]}],
        [{"field": "repeatCount", "before": 2, "after": 1}],
    ]
    shown = tocsin("oncall", "apply", str(file), "--diff", "--dry-run").stdout
    assert "unchanged" in shown
    assert "Dry run: nothing was stored." in shown


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ("rotation: weekly", "schedules[0].layers[0].rotationKind", 'unknown field; did you mean "rotation"?'),
        ("turnLength: 12h", "schedules[0].layers[1].turnLength", "expected a duration with its unit"),
        ("friday", "schedules[0].layers[1].hours[0].weekdays", "expected one of MONDAY, "),
        ("repeatCount: 2", "policies[0].repeatCount", "expected a whole number such as 3"),
        ("people: [ann], receivers: [chat]", "policies[0].steps[1]", "expected a mapping"),
        ("displayName: Ann Okoye", "people[0].display_name", "these names are of one field"),
        ("receivers: ben-pager", "people[1].receivers", "expected a string"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_sent(
    tocsin: Command, edge: Edge, file: Path, changed: str, field: str, message: str
) -> None:
    wrong = {
        "rotation: weekly": "rotationKind: weekly",
        "turnLength: 12h": "turnLength: long",
        "friday": "someday",
        "repeatCount: 2": "repeatCount: yes",
        "displayName: Ann Okoye": "displayName: Ann, display_name: Ann",
        "receivers: ben-pager": "receivers: [[x]]",
    }
    text = DOCUMENT.replace(changed, wrong.get(changed, changed))
    if changed not in wrong:
        text = DOCUMENT.replace("- {delay: 5m, people: [ann], receivers: [chat]}", "- chat")
    file.write_text(text)
    done = tocsin("oncall", "apply", str(file), "-o", "json")
    assert done.exit_code == 2
    found = {detail["field"]: detail["description"] for detail in error_of(done)["details"]}
    assert message in found[field]
    assert edge.store.tables.on_call.records == {}


@pytest.mark.parametrize(
    ("text", "field"),
    [("- ann", "the file"), ("peple: []", "peple"), ("people: ann", "people"), ("people: [ann]", "people[0]")],
)
def test_a_file_of_another_form_is_refused(tocsin: Command, file: Path, text: str, field: str) -> None:
    file.write_text(text)
    done = tocsin("oncall", "apply", str(file), "-o", "json")
    assert (done.exit_code, [detail["field"] for detail in error_of(done)["details"]]) == (2, [field])


def test_what_the_server_refuses_is_named_in_the_words_of_the_files(tocsin: Command, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("people: [{name: ann, receivers: [x]}]\n")
    (tmp_path / "b.yaml").write_text("people: [{name: a b, receivers: [x]}]\n")
    done = tocsin("oncall", "apply", str(tmp_path), "-o", "json")
    assert done.exit_code == 1
    (detail,) = error_of(done)["details"]
    assert (detail["field"], detail["rule"]) == (f"{tmp_path / 'b.yaml'}: people[0].name", "a b")


def test_who_is_on_call_is_shown(tocsin: Command, file: Path) -> None:
    applied(tocsin, file)
    table = tocsin("oncall", "who").stdout.split("\n")
    assert table[2].split() == ["payments", "ann", "week", "2026-01-02", "21:00:00"]
    one = " ".join(tocsin("oncall", "who", "payments").stdout.split())
    assert "On call Ann Okoye (ann)" in one
    assert "Receivers ann-pager, ann-mail" in one
    assert "Next ben from 2026-01-02 21:00:00 UTC (nights)" in one
    later = json.loads(tocsin("oncall", "who", "payments", "--at", "2026-01-02T22:30Z", "-o", "json").stdout)
    assert (later["shift"]["person"], later["shift"]["layer"]) == ("ben", "nights")
    early = tocsin("oncall", "who", "payments", "--at", "2025-12-01T00:00Z").stdout
    assert "nobody" in early
    assert json.loads(tocsin("oncall", "who", "-o", "json").stdout)[0]["shift"]["person"] == "ann"
    unknown = tocsin("oncall", "who", "nights")
    assert (unknown.exit_code, "there is no schedule of this name" in unknown.stderr) == (1, True)


def test_the_next_shifts_are_shown_on_the_clock_of_the_schedule(tocsin: Command, file: Path) -> None:
    applied(tocsin, file)
    lines = tocsin("oncall", "show", "payments", "--days", "2").stdout.splitlines()
    assert lines[0].rstrip() == "payments, times in Europe/Berlin"
    assert [line.split()[-2:] for line in lines[3:]] == [["ann", "week"], ["ben", "nights"], ["ann", "week"]]
    assert lines[4].split()[:6] == ["Fri", "2026-01-02", "22:00", "Sat", "2026-01-03", "00:00"]
    assert len(json.loads(tocsin("oncall", "show", "payments", "--days", "2", "-o", "json").stdout)) == 3


def test_a_calendar_is_printed_as_it_is(tocsin: Command, file: Path) -> None:
    applied(tocsin, file)
    done = tocsin("oncall", "calendar", "payments", "--person", "ann")
    assert done.stdout_bytes.startswith(b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")
    assert done.stdout_bytes.endswith(b"END:VCALENDAR\r\n")
    assert b"SUMMARY:Ann Okoye on call: payments\r\n" in done.stdout_bytes


def test_an_override_is_added_listed_and_deleted(tocsin: Command, edge: Edge, file: Path) -> None:
    applied(tocsin, file)
    arguments = ("oncall", "override", "payments", "ben", "--actor", "dora")
    done = tocsin(*arguments, "--start", "2026-01-01T00:00Z", "--end", "2026-01-02T00:00Z", "-o", "json")
    override = json.loads(done.stdout)
    assert (override["schedule"], override["person"], override["actor"]) == ("payments", "ben", "dora")
    assert "override" in tocsin("oncall", "who").stdout
    assert "dora" in tocsin("oncall", "overrides", "payments").stdout
    assert json.loads(tocsin("oncall", "overrides", "payments", "-o", "json").stdout) == [override]
    span = tocsin(*arguments, "--start", "2026-01-03T00:00Z", "--for", "2h")
    assert "2026-01-03 02:00:00" in span.stdout
    several = tocsin("oncall", "overrides", "payments", "--delete", "")
    assert several.exit_code == 0
    assert tocsin("oncall", "overrides", "payments", "--delete", override["id"]).stdout == f"deleted {override['id']}\n"
    (rest,) = edge.store.tables.on_call.overrides
    deleted = tocsin("oncall", "overrides", "payments", "--delete", rest.id[:8], "-o", "json")
    assert json.loads(deleted.stdout) == {"name": rest.id, "deleted": True}
    assert tocsin("oncall", "overrides", "payments", "--delete", "0123").exit_code == 1
    for wrong in ((), ("--end", "2026-01-02T00:00Z", "--for", "2h")):
        assert "expected --end or --for" in tocsin(*arguments, *wrong).stderr


def test_people_schedules_and_policies_are_listed(tocsin: Command, file: Path) -> None:
    applied(tocsin, file)
    people = tocsin("oncall", "people", "-o", "wide").stdout
    assert "Ann Okoye" in people
    assert "ann-pager, ann-mail" in people
    schedules = tocsin("oncall", "schedules", "-o", "wide").stdout
    assert "every 12h" in schedules
    assert "Mon Fri 22:00-24:00, Sun 09:30-12:00" in schedules
    policies = tocsin("oncall", "policies", "-o", "wide").stdout
    assert "on call: payments" in policies
    assert "HIGH or higher; daily 09:00-17:00 UTC" in policies
    assert "all again after 5m, 2 times" in policies
    assert [each["name"] for each in json.loads(tocsin("oncall", "people", "-o", "json").stdout)] == ["ann", "ben"]
    file.write_text("policies: [{name: urgent, steps: [{people: [ann], delay: 5m, untilAcknowledged: true}]}]")
    applied(tocsin, file)
    assert "again until acknowledged" in tocsin("oncall", "policies", "-o", "wide").stdout


def test_what_is_in_no_file_is_deleted_when_somebody_is_sure(tocsin: Command, edge: Edge, file: Path) -> None:
    applied(tocsin, file)
    file.write_text("people: [{name: ben, receivers: ben-pager}]\n")
    deleted = [("deleted", name) for name in ("policy urgent", "schedule payments", "person ann")]
    assert changes(applied(tocsin, file)) == [("unchanged", "person ben")]
    assert changes(applied(tocsin, file, "--prune", "--dry-run")) == [("unchanged", "person ben"), *deleted]
    refused = tocsin("oncall", "apply", str(file), "--prune", "-o", "json")
    assert (refused.exit_code, [each["rule"] for each in error_of(refused)["details"]]) == (
        2,
        ["policy urgent", "schedule payments", "person ann"],
    )
    assert len(edge.store.tables.on_call.records) == 4
    assert changes(applied(tocsin, file, "--prune", "--yes")) == [("unchanged", "person ben"), *deleted]
    assert [name for _, name in edge.store.tables.on_call.records] == ["ben"]
    assert changes(applied(tocsin, file, "--prune")) == [("unchanged", "person ben")]


def test_what_is_still_used_is_not_pruned_and_the_rest_is_shown(tocsin: Command, edge: Edge, file: Path) -> None:
    applied(tocsin, file)
    edge.store.tables.routing[1] = a_stored_tree(a_tree(policy="urgent"))
    file.write_text("people: [{name: ben, receivers: other-pager}]\n")
    done = tocsin("oncall", "apply", str(file), "--prune", "--yes")
    assert (done.exit_code, "the routing tree" in done.stderr, "updated" in done.stdout) == (1, True, True)
    assert len(edge.store.tables.on_call.records) == 4


def test_what_is_not_used_is_deleted(tocsin: Command, edge: Edge, file: Path) -> None:
    applied(tocsin, file)
    used = tocsin("oncall", "delete", "schedule", "payments")
    assert (used.exit_code, 'policy "urgent"' in used.stderr) == (1, True)
    for kind, name in (("policy", "urgent"), ("schedule", "payments"), ("person", "ann")):
        assert tocsin("oncall", "delete", kind, name).stdout == f"deleted {name}\n"
    assert edge.store.tables.on_call.names(OnCallKind.PERSON) == ["ben"]
