"""tocsin rules apply: make the stored rules those of files, by name, as often as wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, new_request_id, open_channel
from cli.document_files import files_of
from cli.file_changes import (
    ChangeKind,
    DiffOption,
    DryRunOption,
    FileChange,
    SureOption,
    ask_before_deleting,
    differences_of,
    print_changes,
)
from cli.file_values import is_output
from cli.output import OutputFormat, OutputOption, json_of
from cli.rule_checks import check_rules
from cli.rule_files import FileRule, load_rules, name_duplicates
from cli.rule_names import all_rules
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

_OUTPUT_ONLY = frozenset(field.json_name for field in AlertRule.DESCRIPTOR.fields if is_output(field))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """What becomes of one rule: the rule as it is stored, and as it is to be; None where there is none."""

    before: AlertRule | None
    after: AlertRule | None

    @property
    def kind(self) -> ChangeKind:
        """What becomes of it."""
        if self.before is None:
            return ChangeKind.CREATED
        if self.after is None:
            return ChangeKind.DELETED
        return ChangeKind.UPDATED if self.differences() else ChangeKind.UNCHANGED

    @property
    def name(self) -> str:
        """The name of the rule."""
        return (self.after or self.before or AlertRule()).name

    def shown(self) -> FileChange:
        """Return what is printed of it."""
        rule_id = (self.before or self.after or AlertRule()).id
        return FileChange(kind=self.kind, name=self.name, differences=self.differences(), item_id=rule_id)

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ, with both values; None where a field is not set."""
        before = {} if self.before is None else settable_fields(self.before)
        after = {} if self.after is None else settable_fields(self.after)
        return differences_of(before, after)


def settable_fields(rule: AlertRule) -> dict[str, Any]:
    """Return the fields of a rule that people set, by their names in JSON."""
    fields = ordered_fields(rule)
    return {name: value for name, value in fields.items() if name not in _OUTPUT_ONLY and name != "etag"}


def ordered_fields(rule: AlertRule) -> dict[str, Any]:
    """Return the fields of a rule by their names in JSON, in the order of the contract."""
    fields: dict[str, Any] = json_of(rule)
    return {each.json_name: fields[each.json_name] for each in AlertRule.DESCRIPTOR.fields if each.json_name in fields}


def plan_changes(
    given: Sequence[FileRule], checked: Sequence[AlertRule], stored: Sequence[AlertRule], *, prune: bool
) -> list[RuleChange]:
    """Decide what becomes of each rule: of those in files by their names, and of all others when they are pruned.

    A rule that was disabled stays so where its file does not say whether it is enabled.
    """
    by_name = {rule.name: rule for rule in stored}
    changes = []
    for file_rule, rule in zip(given, checked, strict=True):
        before, after = by_name.get(rule.name), AlertRule()
        after.CopyFrom(rule)
        if before is not None and not file_rule.rule.HasField("enabled"):
            after.enabled = before.enabled
        changes.append(RuleChange(before=before, after=after))
    names = {rule.name for rule in checked}
    return changes + [RuleChange(before=rule, after=None) for rule in stored if prune and rule.name not in names]


def apply_rules(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR", help="YAML or JSON files, or folders of them; - is stdin."),
    ],
    *,
    show_diff: DiffOption = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete all rules that are in none of the files.")] = False,
    is_sure: SureOption = False,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Make the stored rules those of files: create, replace or leave each by its name. Nothing when one is invalid.

    A rule is replaced whole: what its file leaves out is the default, but a rule that was disabled stays so. Before
    --prune deletes any, it names them and asks.

    Exit code 1 when a rule is refused, or when the answer is no; what was done before is shown.
    """
    files = files_of(paths, output)
    is_one = len(files) == 1
    loaded = [rule for file in files for rule in load_rules(file, output, prefix="" if is_one else f"{file}: ")]
    rules = name_duplicates(loaded)
    source = files[0] if is_one else Path(f"{len(files)} files")
    done: list[RuleChange] = []
    with open_channel(server, output) as channel:
        stub = AlertRuleServiceStub(channel)
        checked = check_rules(stub, rules, str(source), output)
        changes = plan_changes(rules, checked, all_rules(stub), prune=prune)
        if not is_dry_run and not is_sure:
            deleted = [change.name for change in changes if change.kind is ChangeKind.DELETED]
            ask_before_deleting(deleted, "rules", output)
        try:
            for change in changes:
                done.append(_carry_out(stub, change, is_dry_run=is_dry_run))  # noqa: PERF401  (each as it is done)
        finally:
            # Also when the server refuses one, or goes away in between.
            print_changes(
                [change.shown() for change in done], output, show_diff=show_diff, is_dry_run=is_dry_run, has_ids=True
            )


def _carry_out(stub: AlertRuleServiceStub, change: RuleChange, *, is_dry_run: bool) -> RuleChange:
    """Make a change; return it with the rule as it is stored now."""
    match change.kind, change.before, change.after:
        case ChangeKind.CREATED, _, AlertRule() as rule:
            return RuleChange(before=None, after=_create(stub, rule, is_dry_run=is_dry_run))
        case ChangeKind.UPDATED, AlertRule() as before, AlertRule() as rule:
            return RuleChange(before=before, after=_replace(stub, before, rule, is_dry_run=is_dry_run))
        case ChangeKind.DELETED, AlertRule() as before, _ if not is_dry_run:
            request = service.DeleteAlertRuleRequest(id=before.id, etag=before.etag)
            stub.DeleteAlertRule(request, timeout=RPC_TIMEOUT_S)
    return change


def _create(stub: AlertRuleServiceStub, rule: AlertRule, *, is_dry_run: bool) -> AlertRule:
    request = service.CreateAlertRuleRequest(alert_rule=rule, request_id=new_request_id(), validate_only=is_dry_run)
    return stub.CreateAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule


def _replace(stub: AlertRuleServiceStub, before: AlertRule, rule: AlertRule, *, is_dry_run: bool) -> AlertRule:
    request = service.ReplaceAlertRuleRequest(
        id=before.id, alert_rule=rule, request_id=new_request_id(), validate_only=is_dry_run
    )
    # Refused when somebody else was faster, so that no edit is lost.
    request.alert_rule.etag = before.etag
    return stub.ReplaceAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule
