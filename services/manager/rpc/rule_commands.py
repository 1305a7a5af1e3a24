"""Changing alert rules: each change, its history, its answer and what its alerts are to do in one transaction."""

from collections.abc import Callable
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.failures import InvalidRequest, Violation
from services.chassis.telemetry import trace_headers
from services.contract.alert_rules import read_alert_rule
from services.domain.trace_context import traceparent_of
from services.manager.core.commands.masks import MaskError, fields_meant
from services.manager.core.commands.rules import Ending, counts_afresh, created, edited, merged, says_the_same, switched
from services.manager.core.rule import MAX_RULES, Edit, KeptRule
from services.manager.metrics import Metrics
from services.manager.ports.commands import NameTakenError, Store, Writing
from services.manager.rpc.failures import RuleNameTaken, RuleNotFound, TooManyRules
from services.manager.rpc.requests import check, check_etag, once, refuse, repeatable
from services.manager.rpc.rule_checking import RuleChecker
from services.manager.wire.rules import message, present
from services.rule_language.rule import Rule
from tocsin.rules.v1 import alert_rule_service_pb2 as pb


class RuleCommands:
    """What may be done to alert rules."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        metrics: Metrics,
        checker: RuleChecker,
    ) -> None:
        self._checker = checker
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics

    async def create(self, request: pb.CreateAlertRuleRequest) -> pb.CreateAlertRuleResponse:
        """Add a rule."""
        check(request)
        rule, first = await self._checker.completed(read_alert_rule(request.alert_rule)), repeatable(request)
        now = self._clock.now()

        async def act() -> pb.CreateAlertRuleResponse:
            revision = await writing.rules.next_revision()
            if await writing.rules.count() >= MAX_RULES:
                raise TooManyRules(f"there are {MAX_RULES} alert rules, which is the most; delete one")
            kept = created(rule, self._new_id(), revision, now=now)
            await _keep(writing, kept, Edit.CREATED)
            self._metrics.edited()
            return pb.CreateAlertRuleResponse(alert_rule=message(kept))

        async with self._store.writing() as writing:
            return await once(writing.requests, first, pb.CreateAlertRuleResponse, now, act)

    async def update(self, request: pb.UpdateAlertRuleRequest) -> pb.UpdateAlertRuleResponse:
        """Change the fields that the mask means."""
        check(request, "id")
        fields, first = _fields(request), repeatable(request)
        given = read_alert_rule(request.alert_rule)
        now = self._clock.now()

        async def act() -> pb.UpdateAlertRuleResponse:
            kept = await _found(writing, request.id)
            check_etag(request.alert_rule.etag, kept.etag)
            rule = await self._checker.completed(given if fields is None else merged(kept.rule, given, fields))
            return pb.UpdateAlertRuleResponse(alert_rule=message(await self._edit(writing, kept, rule, now)))

        async with self._store.writing() as writing:
            return await once(writing.requests, first, pb.UpdateAlertRuleResponse, now, act)

    async def replace(self, request: pb.ReplaceAlertRuleRequest) -> pb.ReplaceAlertRuleResponse:
        """Put another rule in this one's place."""
        check(request, "id")
        rule, first = await self._checker.completed(read_alert_rule(request.alert_rule)), repeatable(request)
        now = self._clock.now()

        async def act() -> pb.ReplaceAlertRuleResponse:
            kept = await _found(writing, request.id)
            check_etag(request.alert_rule.etag, kept.etag)
            return pb.ReplaceAlertRuleResponse(alert_rule=message(await self._edit(writing, kept, rule, now)))

        async with self._store.writing() as writing:
            return await once(writing.requests, first, pb.ReplaceAlertRuleResponse, now, act)

    async def delete(self, request: pb.DeleteAlertRuleRequest) -> pb.DeleteAlertRuleResponse:
        """Remove a rule; its alerts end soon after."""
        check(request, "id")
        now = self._clock.now()
        async with self._store.writing() as writing:
            kept = await _found(writing, request.id)
            check_etag(request.etag, kept.etag)
            revision = await writing.rules.next_revision()
            await writing.rules.remove(kept, revision, now)
            await _end_alerts(writing, kept, revision, "the rule was deleted", now)
        self._metrics.edited()
        return pb.DeleteAlertRuleResponse()

    async def switch(self, rule_id: str, *, enabled: bool) -> KeptRule:
        """Enable or disable a rule; nothing changes when it is so already."""
        async with self._store.writing() as writing:
            kept = await _found(writing, rule_id)
            return await self._edit(writing, kept, switched(kept.rule, enabled=enabled), self._clock.now())

    async def _edit(self, writing: Writing, kept: KeptRule, rule: Rule, now: datetime) -> KeptRule:
        if says_the_same(kept.rule, rule):
            return kept
        # Compiled before the revision is taken: that locks a row which every other edit needs.
        is_fresh = await self._checker.compile(counts_afresh, kept.rule, rule)
        revision = await writing.rules.next_revision()
        after = edited(kept, rule, revision, is_fresh=is_fresh, now=now)
        await _keep(writing, after, Edit.UPDATED)
        self._metrics.edited()
        if kept.rule.enabled and not after.rule.enabled:
            await _end_alerts(writing, after, after.rule.revision, "the rule was disabled", now)
        return after


async def _end_alerts(writing: Writing, kept: KeptRule, revision: int, why: str, now: datetime) -> None:
    # The evaluator says so too, if it still knows the group. An alert must not stay open when it does not. There may
    # be many, so they end after the answer.
    ending = Ending(revision=revision, rule_id=kept.rule.id, comment=why, traceparent=traceparent_of(trace_headers()))
    await writing.endings.add(ending, now)


async def _found(writing: Writing, rule_id: str) -> KeptRule:
    kept = await writing.rules.find(rule_id)
    if kept is None:
        raise RuleNotFound("there is no alert rule with this id", rule_id=rule_id)
    return kept


async def _keep(writing: Writing, kept: KeptRule, edit: Edit) -> None:
    try:
        await writing.rules.keep(kept, edit)
    except NameTakenError as error:
        raise RuleNameTaken("an alert rule of this name exists already", name=kept.rule.name) from error


def _fields(request: pb.UpdateAlertRuleRequest) -> frozenset[str] | None:
    try:
        fields = fields_meant(request.update_mask.paths, present(request.alert_rule))
    except MaskError as error:
        refuse(*(Violation("updateMask", f'"{path}" {why}') for path, why in error.paths.items()))
        raise
    if fields is not None and not request.update_mask.paths and not fields:
        raise InvalidRequest(
            "nothing to change", violations=[Violation("alertRule", "sets no field that can be changed")]
        )
    return fields
