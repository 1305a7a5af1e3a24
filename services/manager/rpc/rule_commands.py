"""Change alert rules: each change, its history, its response and the ending of its alerts in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import ParamSpec, TypeVar

from services.chassis.clock import Clock
from services.chassis.failures import InvalidRequest, Overloaded, TenantLimitReached, Violation
from services.chassis.request_ids import request_id_of, respond_once
from services.chassis.telemetry import trace_headers
from services.chassis.tenants import current_tenant
from services.contract.alert_rules import read_alert_rule, write_alert_rule
from services.domain.tenants import TenantLimits
from services.domain.trace_context import traceparent_of
from services.manager.core import rule_edits
from services.manager.core.rule import MAX_RULES, RuleEdit, StoredRule
from services.manager.core.rule_edits import RuleEnding, UpdateMaskError
from services.manager.messages.rules import rule_message, set_fields
from services.manager.metrics import Metrics
from services.manager.ports.tables import NameTakenError, Store, Transaction
from services.manager.rpc.failures import RuleNameTaken, RuleNotFound, TooManyRules
from services.manager.rpc.requests import author_of, check_etag, check_fields, refuse_if_any
from services.rule_language.rule import Draft, Rule, RuleError, complete
from services.rule_language.warnings import find_warnings
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Request = (
    pb.CreateAlertRuleRequest
    | pb.UpdateAlertRuleRequest
    | pb.ReplaceAlertRuleRequest
    | pb.EnableAlertRuleRequest
    | pb.DisableAlertRuleRequest
)
_Response = TypeVar(
    "_Response",
    pb.CreateAlertRuleResponse,
    pb.UpdateAlertRuleResponse,
    pb.ReplaceAlertRuleResponse,
    pb.EnableAlertRuleResponse,
    pb.DisableAlertRuleResponse,
)

# A large rule takes some hundred milliseconds of a processor.
_MAX_RUNNING = 2
_MAX_WAITING = 16
_NO_LIMITS = TenantLimits()


class RuleChecker:
    """Compiles rules in threads, a few at once, so that one large rule does not block the event loop."""

    def __init__(self, *, max_running: int = _MAX_RUNNING, max_waiting: int = _MAX_WAITING) -> None:
        self._threads = ThreadPoolExecutor(max_workers=max_running, thread_name_prefix="check-rules")
        self._limit = max_running + max_waiting
        self._count = 0

    async def complete(self, draft: Draft) -> Rule:
        """Return the rule with everything filled in; InvalidRequest names each field that is not allowed."""
        try:
            return await self.compile(complete, draft)
        except RuleError as error:
            refuse_if_any(*(Violation(problem.field, problem.description) for problem in error.problems))
            raise

    async def warnings(self, rule: Rule) -> list[pb.RuleWarning]:
        """Return what is allowed in a rule and surely not meant."""
        found = await self.compile(find_warnings, rule)
        return [pb.RuleWarning(field=warning.field, description=warning.description) for warning in found]

    async def compile(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do work that compiles expressions. Raises Overloaded when too much of it is waiting."""
        if self._count >= self._limit:
            raise Overloaded("too many rules are being checked at this moment")
        self._count += 1
        try:
            # A caller who goes away cancels what has not begun.
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))
        finally:
            self._count -= 1

    def close(self) -> None:
        """Cancel what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class RuleCommands:
    """Changes rules; a repeated call with a request_id changes them once, one that validates only not at all."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        metrics: Metrics,
        checker: RuleChecker,
        limits: TenantLimits = _NO_LIMITS,
    ) -> None:
        self._limits = limits
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics
        self._checker = checker

    async def validate(self, request: pb.ValidateAlertRuleRequest) -> pb.ValidateAlertRuleResponse:
        """Check a rule by itself."""
        check_fields(request)
        rule = await self._checker.complete(read_alert_rule(request.alert_rule))
        warnings = await self._checker.warnings(rule)
        return pb.ValidateAlertRuleResponse(alert_rule=write_alert_rule(rule), warnings=warnings)

    async def create(self, request: pb.CreateAlertRuleRequest) -> pb.CreateAlertRuleResponse:
        check_fields(request)
        rule = await self._checker.complete(read_alert_rule(request.alert_rule))
        warnings = await self._checker.warnings(rule)

        async def act(edits: _RuleEdits) -> pb.CreateAlertRuleResponse:
            stored = await edits.create(rule, self._new_id())
            return pb.CreateAlertRuleResponse(alert_rule=rule_message(stored), warnings=warnings)

        return await self._run(request, pb.CreateAlertRuleResponse, act)

    async def update(self, request: pb.UpdateAlertRuleRequest) -> pb.UpdateAlertRuleResponse:
        """Change the fields that the mask names."""
        check_fields(request, "id")
        fields, values = _masked_fields(request), read_alert_rule(request.alert_rule)

        async def act(edits: _RuleEdits) -> pb.UpdateAlertRuleResponse:
            stored = await edits.get(request.id, request.alert_rule.etag)
            draft = values if fields is None else rule_edits.merge(stored.rule, values, fields)
            rule = await self._checker.complete(draft)
            warnings = await self._checker.warnings(rule)
            edited = await edits.edit(stored, rule)
            return pb.UpdateAlertRuleResponse(alert_rule=rule_message(edited), warnings=warnings)

        return await self._run(request, pb.UpdateAlertRuleResponse, act)

    async def replace(self, request: pb.ReplaceAlertRuleRequest) -> pb.ReplaceAlertRuleResponse:
        """Replace a rule by another."""
        check_fields(request, "id")
        rule = await self._checker.complete(read_alert_rule(request.alert_rule))
        warnings = await self._checker.warnings(rule)

        async def act(edits: _RuleEdits) -> pb.ReplaceAlertRuleResponse:
            edited = await edits.edit(await edits.get(request.id, request.alert_rule.etag), rule)
            return pb.ReplaceAlertRuleResponse(alert_rule=rule_message(edited), warnings=warnings)

        return await self._run(request, pb.ReplaceAlertRuleResponse, act)

    async def enable(self, request: pb.EnableAlertRuleRequest) -> pb.EnableAlertRuleResponse:
        return await self._set_enabled(request, pb.EnableAlertRuleResponse, enabled=True)

    async def disable(self, request: pb.DisableAlertRuleRequest) -> pb.DisableAlertRuleResponse:
        """Disable a rule; its alerts are resolved soon after."""
        return await self._set_enabled(request, pb.DisableAlertRuleResponse, enabled=False)

    async def delete(self, request: pb.DeleteAlertRuleRequest) -> pb.DeleteAlertRuleResponse:
        """Delete a rule; its alerts are resolved soon after."""
        check_fields(request, "id")
        async with self._store.transaction() as transaction:
            edits = _RuleEdits(transaction, self._checker, self._clock.now(), self._limits)
            await edits.delete(await edits.get(request.id, request.etag))
        self._metrics.rules_edited(edits.count)
        return pb.DeleteAlertRuleResponse()

    async def _set_enabled(
        self,
        request: pb.EnableAlertRuleRequest | pb.DisableAlertRuleRequest,
        response_type: type[_Response],
        *,
        enabled: bool,
    ) -> _Response:
        check_fields(request, "id")

        async def act(edits: _RuleEdits) -> _Response:
            stored = await edits.get(request.id)
            edited = await edits.edit(stored, replace(stored.rule, enabled=enabled))
            return response_type(alert_rule=rule_message(edited))

        return await self._run(request, response_type, act)

    async def _run(
        self, request: _Request, response_type: type[_Response], act: Callable[["_RuleEdits"], Awaitable[_Response]]
    ) -> _Response:
        validate_only: bool = getattr(request, "validate_only", False)
        now = self._clock.now()
        # A wrong request_id is refused also when the call validates only.
        request_id_of(request)
        async with self._store.transaction(commit=not validate_only) as transaction:
            edits = _RuleEdits(transaction, self._checker, now, self._limits)
            if validate_only:
                return _without_stored_fields(await act(edits), request)
            response = await respond_once(request, transaction.requests, response_type, lambda: act(edits), now=now)
        self._metrics.rules_edited(edits.count)
        return response


class _RuleEdits:
    """The edits of one call, in one transaction."""

    def __init__(self, transaction: Transaction, checker: RuleChecker, now: datetime, limits: TenantLimits) -> None:
        self._limits = limits
        self._transaction = transaction
        self._rules = transaction.rules
        self._checker = checker
        self._now = now
        self.count = 0

    async def get(self, rule_id: str, etag: str = "") -> StoredRule:
        stored = await self._rules.get_for_update(rule_id)
        if stored is None:
            raise RuleNotFound("there is no alert rule with this id", rule_id=rule_id)
        check_etag(etag, stored.etag)
        return stored

    async def create(self, rule: Rule, rule_id: str) -> StoredRule:
        revision = await self._rules.take_revision()
        if (count := await self._rules.count()) >= MAX_RULES:
            raise TooManyRules(f"there are {MAX_RULES} alert rules already, which is the maximum; delete one first")
        if 0 < (limit := self._limits.of(current_tenant())) <= count:
            raise TenantLimitReached(
                f"tenant {current_tenant()} may have {limit} alert rules; delete one first",
                limit="rules",
                value=str(limit),
            )
        stored = rule_edits.create(rule, rule_id, revision, now=self._now, tenant=current_tenant())
        await self._upsert(stored, RuleEdit.CREATED)
        return stored

    async def edit(self, stored: StoredRule, rule: Rule) -> StoredRule:
        if rule_edits.is_unchanged(stored.rule, rule):
            return stored
        # Compiled before the revision is taken: that locks a row which every other edit needs.
        is_fresh = await self._checker.compile(rule_edits.counts_afresh, stored.rule, rule)
        revision = await self._rules.take_revision()
        after = rule_edits.edit(stored, rule, revision, is_fresh=is_fresh, now=self._now)
        await self._upsert(after, RuleEdit.UPDATED)
        if stored.rule.enabled and not after.rule.enabled:
            await self._end_alerts(after, revision, "disabled")
        elif stored.rule.enabled and is_fresh:
            await self._end_alerts(after, revision, "edited so that counting begins again")
        return after

    async def delete(self, stored: StoredRule) -> None:
        revision = await self._rules.take_revision()
        await self._rules.delete(stored, revision, self._now)
        self.count += 1
        await self._end_alerts(stored, revision, "deleted")

    async def _upsert(self, stored: StoredRule, edit: RuleEdit) -> None:
        try:
            await self._rules.upsert(stored, edit)
        except NameTakenError as error:
            raise RuleNameTaken("an alert rule of this name exists already", name=stored.rule.name) from error
        self.count += 1

    async def _end_alerts(self, stored: StoredRule, revision: int, edit: str) -> None:
        # The evaluator ends them too, if it still knows the group; an alert must not stay open when it does not. There
        # may be many, so they are resolved after the response.
        traceparent = traceparent_of(trace_headers())
        comment = rule_edits.words_of_ending(edit, revision, author=author_of(""))
        ending = RuleEnding(revision=revision, rule_id=stored.rule.id, comment=comment, traceparent=traceparent)
        await self._transaction.rule_endings.insert(ending, self._now)


def _without_stored_fields(response: _Response, request: _Request) -> _Response:
    """Return the response without the fields that only a stored change sets."""
    rule = response.alert_rule
    rule.ClearField("revision")
    rule.ClearField("selection_revision")
    rule.ClearField("etag")
    rule.ClearField("update_time")
    if isinstance(request, pb.CreateAlertRuleRequest):
        rule.ClearField("id")
        rule.ClearField("create_time")
    return response


def _masked_fields(request: pb.UpdateAlertRuleRequest) -> frozenset[str] | None:
    try:
        fields = rule_edits.masked_fields(request.update_mask.paths, set_fields(request.alert_rule))
    except UpdateMaskError as error:
        refuse_if_any(*(Violation("updateMask", f'"{path}" {why}') for path, why in error.paths.items()))
        raise
    if fields is not None and not request.update_mask.paths and not fields:
        raise InvalidRequest(
            "nothing to change", violations=[Violation("alertRule", "sets no field that can be changed")]
        )
    return fields
