"""Reading, checking and following alert rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from services.contract.alert_rules import read_alert_rule
from services.contract.paging import encode_page_token
from services.domain.fingerprint import digest
from services.manager.core.queries.filters import RuleFilter
from services.manager.core.rule import KeptRule
from services.manager.ports.queries import Answers, RuleFeed, RuleReader
from services.manager.rpc.failures import RuleNotFound
from services.manager.rpc.requests import check, page_of
from services.manager.rpc.rule_checking import RuleChecker
from services.manager.wire.rules import message, pages, portions, whole
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

# Never shown: a rule that is not kept has no times.
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class RuleQueries:
    """What may be asked about alert rules.

    Answers are kept under the version of the rules as a whole, which the database is asked for each time: so none
    is older than the last change that was acknowledged, whatever becomes of the cache.
    """

    def __init__(
        self, reader: RuleReader, answers: Answers, feed: RuleFeed, sign_of_life: timedelta, checker: RuleChecker
    ) -> None:
        self._checker = checker
        self._reader = reader
        self._answers = answers
        self._feed = feed
        self._sign_of_life = sign_of_life

    async def get(self, request: pb.GetAlertRuleRequest) -> pb.GetAlertRuleResponse:
        """One rule."""
        check(request, "id")

        async def work_out() -> bytes:
            kept = await self._reader.get(request.id)
            if kept is None:
                raise RuleNotFound("there is no alert rule with this id", rule_id=request.id)
            return pb.GetAlertRuleResponse(alert_rule=message(kept)).SerializeToString()

        key = f"rule:{await self._reader.version()}:{digest(request.id)}"
        return pb.GetAlertRuleResponse.FromString(await self._answers.get(key, work_out))

    async def page(self, request: pb.ListAlertRulesRequest) -> pb.ListAlertRulesResponse:
        """One page of rules."""
        check(request)
        wanted = RuleFilter(enabled=request.enabled if request.HasField("enabled") else None)
        filters = f"rules {wanted.enabled}"
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)

        async def work_out() -> bytes:
            rows = await self._reader.page(wanted, page)
            shown = next(portions(rows[: page.size]))
            token = encode_page_token((shown[-1].name,), filters=filters) if len(rows) > len(shown) else ""
            answer = pb.ListAlertRulesResponse(alert_rules=shown, next_page_token=token)
            return answer.SerializeToString()

        key = f"rules:{await self._reader.version()}:{digest(filters, str(page.size), *page.after)}"
        return pb.ListAlertRulesResponse.FromString(await self._answers.get(key, work_out))

    async def validate(self, request: pb.ValidateAlertRuleRequest) -> pb.ValidateAlertRuleResponse:
        """The rule as it would be kept."""
        check(request)
        rule = await self._checker.completed(read_alert_rule(request.alert_rule))
        kept = KeptRule(rule=rule, create_time=_NEVER, update_time=_NEVER)
        return pb.ValidateAlertRuleResponse(alert_rule=message(kept))

    async def watch(self, request: pb.WatchAlertRulesRequest) -> AsyncIterator[pb.WatchAlertRulesResponse]:
        """The enabled rules at once and what changes in them; a sign of life in between."""
        if request.resume_token:
            # Another instance may have been faster: what the caller has must not be newer than what is here.
            await self._feed.load()
        tell = pages if request.accepts_pages else whole
        rules = self._feed.current
        known = request.resume_token if request.accepts_pages else f"{rules.epoch}.{request.known_revision}"
        for answer in tell(rules, known):
            yield answer
        while True:
            known = rules.version
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sign_of_life.total_seconds()):
                    rules = await self._feed.after(known)
            for answer in tell(rules, known):
                yield answer
