"""Checking what rules say beside the event loop, so that one large rule keeps nobody else waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.chassis.failures import Overloaded, Violation
from services.manager.rpc.requests import refuse
from services.rule_language.rule import Draft, Rule, RuleError, complete

P = ParamSpec("P")
T = TypeVar("T")

# A large rule takes some hundred milliseconds of a processor.
_AT_ONCE = 2
_WAITING = 16


class RuleChecker:
    """Compiles a few rules at once; what more would have to wait too long is refused with a retry hint."""

    def __init__(self, *, at_once: int = _AT_ONCE, waiting: int = _WAITING) -> None:
        self._threads = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="check-rules")
        self._most = at_once + waiting
        self._taken = 0

    async def completed(self, given: Draft) -> Rule:
        """The rule with everything filled in; InvalidRequest names each field that is not allowed."""
        try:
            return await self.compile(complete, given)
        except RuleError as error:
            refuse(*(Violation(problem.field, problem.description) for problem in error.problems))
            raise

    async def compile(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that compiles expressions. Raises Overloaded when too much of it is waiting."""
        if self._taken >= self._most:
            raise Overloaded("too many rules are being checked at this moment")
        self._taken += 1
        try:
            # A caller who goes away takes back what has not begun.
            return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
