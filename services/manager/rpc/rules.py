"""AlertRuleService."""

from collections.abc import AsyncIterator
from typing import Any

from services.manager.rpc.requests import check
from services.manager.rpc.rule_commands import RuleCommands
from services.manager.rpc.rule_queries import RuleQueries
from services.manager.wire.rules import message
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceServicer


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class AlertRules(AlertRuleServiceServicer):
    """Hands each rpc to commands or queries."""

    def __init__(self, commands: RuleCommands, queries: RuleQueries) -> None:
        self._commands = commands
        self._queries = queries

    async def CreateAlertRule(self, request: pb.CreateAlertRuleRequest, _context: Any) -> pb.CreateAlertRuleResponse:
        return await self._commands.create(request)

    async def GetAlertRule(self, request: pb.GetAlertRuleRequest, _context: Any) -> pb.GetAlertRuleResponse:
        return await self._queries.get(request)

    async def ListAlertRules(self, request: pb.ListAlertRulesRequest, _context: Any) -> pb.ListAlertRulesResponse:
        return await self._queries.page(request)

    async def UpdateAlertRule(self, request: pb.UpdateAlertRuleRequest, _context: Any) -> pb.UpdateAlertRuleResponse:
        return await self._commands.update(request)

    async def ReplaceAlertRule(self, request: pb.ReplaceAlertRuleRequest, _context: Any) -> pb.ReplaceAlertRuleResponse:
        return await self._commands.replace(request)

    async def DeleteAlertRule(self, request: pb.DeleteAlertRuleRequest, _context: Any) -> pb.DeleteAlertRuleResponse:
        return await self._commands.delete(request)

    async def EnableAlertRule(self, request: pb.EnableAlertRuleRequest, _context: Any) -> pb.EnableAlertRuleResponse:
        check(request, "id")
        return pb.EnableAlertRuleResponse(alert_rule=message(await self._commands.switch(request.id, enabled=True)))

    async def DisableAlertRule(self, request: pb.DisableAlertRuleRequest, _context: Any) -> pb.DisableAlertRuleResponse:
        check(request, "id")
        return pb.DisableAlertRuleResponse(alert_rule=message(await self._commands.switch(request.id, enabled=False)))

    async def ValidateAlertRule(
        self, request: pb.ValidateAlertRuleRequest, _context: Any
    ) -> pb.ValidateAlertRuleResponse:
        return await self._queries.validate(request)

    async def WatchAlertRules(
        self, request: pb.WatchAlertRulesRequest, _context: Any
    ) -> AsyncIterator[pb.WatchAlertRulesResponse]:
        async for answer in self._queries.watch(request):
            yield answer
