"""What changing things needs: one transaction over rules, alerts and the requests already answered."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.manager.core.alert import Alert, Entry
from services.manager.core.commands.change import Change
from services.manager.core.commands.rules import Ending
from services.manager.core.commands.transitions import Book, Transition
from services.manager.core.rule import Edit, KeptRule

# W3C trace context, as Kafka headers.
Headers = Sequence[tuple[str, bytes]]


class NameTakenError(Exception):
    """Another rule has this name."""


class OpenAlertExistsError(Exception):
    """An alert that was thought to be new is open already; look first, then do it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call that may be repeated: its id, and a digest of everything else in it."""

    id: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The first call with a request's id: what it was and what it was answered."""

    body: str
    answer: bytes


class RequestTable(Protocol):
    """Calls answered within the last day."""

    async def first(self, request: Request, now: datetime) -> Answered | None:
        """The call that came first, or None: then this one is it. Waits for a concurrent one of the same id."""

    async def answer(self, request: Request, answer: bytes) -> None:
        """Keep what the first call is answered."""


class RuleTable(Protocol):
    """The rules; whoever asks for a revision is alone with them until the transaction ends."""

    async def next_revision(self) -> int:
        """The revision of the change to be made; everybody who follows the rules is told when it is committed."""

    async def count(self) -> int:
        """How many rules there are; exact after `next_revision`."""

    async def find(self, rule_id: str) -> KeptRule | None:
        """The rule as it is now; nobody else changes it before the transaction ends."""

    async def keep(self, kept: KeptRule, edit: Edit) -> None:
        """Write a rule and its line of history. Raises NameTakenError."""

    async def remove(self, kept: KeptRule, revision: int, now: datetime) -> None:
        """Take a rule away, and say so in its history."""

    async def sow(self, seed: str) -> bool:
        """Whether this database has not had the seed of this name before; from now on it has."""


class AlertTable(Protocol):
    """The alerts and their histories."""

    async def book(self, transitions: Sequence[Transition], *, expected_new: Collection[str]) -> Book:
        """What is known about the transitions' groups, which nobody else changes before the transaction ends.

        The transitions count as done when the transaction is committed. Open keys in `expected_new` are taken to
        have no open alert without looking: if that is wrong, `save` raises OpenAlertExistsError.
        """

    async def save(self, changes: Sequence[tuple[Change, Headers]]) -> None:
        """Write alerts, history and notifications, each with its trace context, and tell those who follow."""

    async def find(self, alert_id: str) -> Alert | None:
        """The alert as it is now; nobody else changes it before the transaction ends."""

    async def open_of(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        """Some of a rule's open alerts that a revision of it before this one said last, likewise."""

    async def note(self, entries: Sequence[Entry]) -> int:
        """Add lines of history, each id once; gives how many were new. Lines of unknown alerts are passed over."""


class EndingTable(Protocol):
    """The rules whose alerts have to end, the oldest ending first."""

    async def add(self, ending: Ending, now: datetime) -> None:
        """Keep one; whoever ends alerts is told when it is committed."""

    async def next(self) -> Ending | None:
        """One that nobody else works on before the transaction ends."""

    async def done(self, ending: Ending) -> None:
        """All of its alerts have ended."""


class Writing(Protocol):
    """One transaction."""

    @property
    def requests(self) -> RequestTable:
        """The calls that were answered."""

    @property
    def rules(self) -> RuleTable:
        """The rules."""

    @property
    def alerts(self) -> AlertTable:
        """The alerts."""

    @property
    def endings(self) -> EndingTable:
        """The rules whose alerts have to end."""


class Store(Protocol):
    """Where everything is kept."""

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        """Begin a transaction: committed at the end, rolled back by an exception. Raises Failure when away."""


class Claims(Protocol):
    """A quick guess, never more than a guess, at which open keys have no open alert yet."""

    async def claim(self, keys: Sequence[str]) -> frozenset[str]:
        """Those that nobody has claimed, which are claimed now. None of them when the guess is not to be had."""

    async def release(self, keys: Sequence[str]) -> None:
        """Their alerts are over."""
