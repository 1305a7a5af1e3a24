"""AlertRuleService: read, check and watch alert rules; RuleCommands changes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from services.chassis.callers import current_caller
from services.chassis.grpc_server import Mount
from services.chassis.tenants import ALL_TENANTS, tenant_served
from services.contract.paging import encode_page_token
from services.domain.fingerprint import digest
from services.manager.core.rule import RuleSnapshot
from services.manager.messages.rules import rule_message, rule_pages, snapshot_pages, whole_snapshot
from services.manager.ports.feeds import ResponseCache, RuleFeed
from services.manager.ports.readers import RuleReader
from services.manager.rpc.failures import RuleNotFound
from services.manager.rpc.pages import page_of
from services.manager.rpc.requests import check_fields
from services.manager.rpc.rule_commands import RuleCommands
from services.manager.rpc.rule_statistics import CurrentProblems
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_service_pb2_grpc import (
    AlertRuleServiceServicer,
    add_AlertRuleServiceServicer_to_server,
)


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class AlertRuleRpc(AlertRuleServiceServicer):
    """Serves alert rules.

    Responses are cached under the version of the rules as a whole, which the database is asked for each time: so none
    is older than the last change that was acknowledged, whatever becomes of the cache. Problems of evaluators are no
    change of a rule: they are read each time.
    """

    def __init__(
        self,
        commands: RuleCommands,
        reader: RuleReader,
        cache: ResponseCache,
        feed: RuleFeed,
        heartbeat: timedelta,
        problems: CurrentProblems,
    ) -> None:
        self._commands = commands
        self._reader = reader
        self._cache = cache
        self._feed = feed
        self._heartbeat = heartbeat
        self._problems = problems

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["AlertRuleService"].full_name,
            lambda server: add_AlertRuleServiceServicer_to_server(self, server),
        )

    async def CreateAlertRule(self, request: pb.CreateAlertRuleRequest, _context: Any) -> pb.CreateAlertRuleResponse:
        return await self._commands.create(request)

    async def UpdateAlertRule(self, request: pb.UpdateAlertRuleRequest, _context: Any) -> pb.UpdateAlertRuleResponse:
        return await self._commands.update(request)

    async def ReplaceAlertRule(self, request: pb.ReplaceAlertRuleRequest, _context: Any) -> pb.ReplaceAlertRuleResponse:
        return await self._commands.replace(request)

    async def DeleteAlertRule(self, request: pb.DeleteAlertRuleRequest, _context: Any) -> pb.DeleteAlertRuleResponse:
        return await self._commands.delete(request)

    async def EnableAlertRule(self, request: pb.EnableAlertRuleRequest, _context: Any) -> pb.EnableAlertRuleResponse:
        return await self._commands.enable(request)

    async def DisableAlertRule(self, request: pb.DisableAlertRuleRequest, _context: Any) -> pb.DisableAlertRuleResponse:
        return await self._commands.disable(request)

    async def GetAlertRule(self, request: pb.GetAlertRuleRequest, _context: Any) -> pb.GetAlertRuleResponse:
        check_fields(request, "id")

        async def compute() -> bytes:
            stored = await self._reader.get(request.id)
            if stored is None:
                raise RuleNotFound("there is no alert rule with this id", rule_id=request.id)
            return pb.GetAlertRuleResponse(alert_rule=rule_message(stored)).SerializeToString()

        key = f"rule:{await self._reader.version()}:{digest(request.id)}"
        response = pb.GetAlertRuleResponse.FromString(await self._cache.get(key, compute))
        await self._problems.add_to([response.alert_rule])
        return response

    async def ListAlertRules(self, request: pb.ListAlertRulesRequest, _context: Any) -> pb.ListAlertRulesResponse:
        check_fields(request)
        enabled = request.enabled if request.HasField("enabled") else None
        filters = f"rules {enabled}"
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)

        async def compute() -> bytes:
            rows = await self._reader.list_page(page, enabled=enabled)
            rules = next(rule_pages(rows[: page.size]))
            token = encode_page_token((rules[-1].name,), filters=filters) if len(rows) > len(rules) else ""
            return pb.ListAlertRulesResponse(alert_rules=rules, next_page_token=token).SerializeToString()

        key = f"rules:{await self._reader.version()}:{digest(filters, str(page.size), *page.after)}"
        response = pb.ListAlertRulesResponse.FromString(await self._cache.get(key, compute))
        await self._problems.add_to(response.alert_rules)
        return response

    async def ValidateAlertRule(
        self, request: pb.ValidateAlertRuleRequest, _context: Any
    ) -> pb.ValidateAlertRuleResponse:
        return await self._commands.validate(request)

    async def WatchAlertRules(
        self, request: pb.WatchAlertRulesRequest, _context: Any
    ) -> AsyncIterator[pb.WatchAlertRulesResponse]:
        if request.resume_token:
            # Another instance may have been faster: the caller's rules must not be newer than this instance's.
            await self._feed.refresh()
        messages = snapshot_pages if request.accepts_pages else whole_snapshot
        tenant = tenant_served(current_caller())
        rules = _shown(self._feed.current, tenant)
        version = request.resume_token if request.accepts_pages else f"{rules.epoch}.{request.known_revision}"
        for message in messages(rules, version):
            yield message
        while True:
            version = rules.version
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat.total_seconds()):
                    rules = _shown(await self._feed.after(version), tenant)
            for message in messages(rules, version):
                yield message


def _shown(rules: RuleSnapshot, tenant: str) -> RuleSnapshot:
    """Return the rules that a caller sees: a service sees those of all tenants."""
    return rules if tenant == ALL_TENANTS else rules.of_tenant(tenant)
