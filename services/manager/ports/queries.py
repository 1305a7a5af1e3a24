"""What reading and following need."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.manager.core.alert import Alert, Entry
from services.manager.core.queries.filters import AlertFilter, Page, RuleFilter
from services.manager.core.rule import KeptRule, RuleChanges, RuleSet


class RuleReader(Protocol):
    """The rules as they are."""

    async def version(self) -> str:
        """Another text after each change of any rule, and in each database; cheap."""

    async def get(self, rule_id: str) -> KeptRule | None:
        """One rule."""

    async def page(self, wanted: RuleFilter, page: Page) -> Sequence[KeptRule]:
        """Up to one more than the page's size, in the order of names after the page's `after` (a name)."""

    async def enabled(self) -> RuleSet:
        """All enabled rules and the version of the whole, as of one moment."""

    async def changes(self, since: int) -> RuleChanges:
        """What became of the enabled rules after this revision, as of one moment."""


class AlertReader(Protocol):
    """The alerts as they are."""

    async def version(self, alert_id: str) -> str | None:
        """Another text after each change of an alert or its history; cheap. None when there is no such alert."""

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[Entry]] | None:
        """One alert and the newest thousand lines of its history, the oldest first, as of one moment."""

    async def page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        """Up to one more than the page's size, the newest first, after `after` (fire time in ISO form, id)."""

    async def open(self, wanted: AlertFilter) -> Sequence[Alert]:
        """All open alerts that are wanted, the oldest first."""

    async def named(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        """Those of these alerts that exist."""


class Answers(Protocol):
    """Answers that need not be worked out again: what is kept under a key never changes."""

    async def get(self, key: str, work_out: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer kept under the key, else the one worked out now, which is kept. Never fails by itself."""


class RuleFeed(Protocol):
    """The enabled rules as they change."""

    @property
    def current(self) -> RuleSet:
        """The newest set that is known."""

    async def after(self, version: str) -> RuleSet:
        """Wait for a set whose version is another. Raises Failure when the service stops."""

    async def load(self) -> None:
        """Make sure that `current` is not older than this moment. Raises Failure."""


class AlertFeed(Protocol):
    """Changes of alerts, as they are committed by any instance."""

    def following(self, wanted: AlertFilter) -> AbstractAsyncContextManager["Following"]:
        """Follow from now on."""


class Following(Protocol):
    """One follower's view."""

    def take(self) -> bytes | None:
        """The newest form of the next alert to send, encoded; None when all was sent.

        Raises Failure for one that is so slow that ends are no longer kept for it.
        """

    async def wait(self) -> None:
        """Until there may be something to take. Raises Failure when the service stops."""
