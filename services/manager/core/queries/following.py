"""What those who follow alerts are sent: one board for all of them, and a place on it for each.

The board holds the newest form of each alert in the order in which they changed: of the open ones, and of those that
ended lately. A follower is no more than the place up to which it was sent, so a slow one costs nothing: it misses forms
in between, never the last one. Ends are kept up to a limit; who has not been sent one that had to go has fallen behind.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter


class FellBehindError(Exception):
    """An end that this follower was not sent is no longer kept."""


@dataclass(slots=True, eq=False)
class Form:
    """An alert as it was after a change, and as it is sent: encoded once for all, when it is first wanted."""

    place: int
    alert: Alert
    encoded: bytes = b""


@dataclass(slots=True)
class Board:
    """The newest forms. Changed in place."""

    encode: Callable[[Alert], bytes]
    limit: int
    # The place of the newest form, and of the newest end that had to go.
    place: int = 0
    lost: int = 0
    _newest: dict[str, Form] = field(default_factory=dict)
    _ended: deque[Form] = field(default_factory=deque)
    # In order of their places; some are not the newest of their alert any more.
    _forms: list[Form] = field(default_factory=list)

    def put(self, alert: Alert) -> None:
        """Take in an alert, unless it is as old as what is known."""
        known = self._newest.get(alert.id)
        if known is not None and known.alert.version >= alert.version:
            return
        self.place += 1
        form = self._newest[alert.id] = Form(self.place, alert)
        self._forms.append(form)
        # An alert that has ended changes no more.
        if not alert.life.is_open:
            self._ended.append(form)
            self._drop_ends()
        if len(self._forms) > 2 * len(self._newest) + self.limit:
            self._forms = [each for each in self._forms if self._is_newest(each)]

    def put_all_open(self, alerts: Iterable[Alert]) -> list[str]:
        """Take in all that is open now; gives those that were open before and are not among them."""
        current = set()
        for alert in alerts:
            self.put(alert)
            current.add(alert.id)
        return [name for name, form in self._newest.items() if form.alert.life.is_open and name not in current]

    def remove(self, alert_id: str) -> None:
        """Forget an alert that is no more."""
        self._newest.pop(alert_id, None)

    def after(self, place: int) -> Iterable[Form]:
        """The newest forms after a place, in their order."""
        first = bisect_right(self._forms, place, key=lambda form: form.place)
        return (form for form in islice(self._forms, first, None) if self._is_newest(form))

    def encoded(self, form: Form) -> bytes:
        """The form as it is sent: the same bytes for all."""
        form.encoded = form.encoded or self.encode(form.alert)
        return form.encoded

    def _is_newest(self, form: Form) -> bool:
        return self._newest.get(form.alert.id) is form

    def _drop_ends(self) -> None:
        while len(self._ended) > self.limit:
            self.lost = self._ended[0].place
            self.remove(self._ended.popleft().alert.id)


@dataclass(slots=True)
class Follower:
    """How far somebody was sent what they want. `began` is the board's place then: of earlier ends it hears nothing."""

    wanted: AlertFilter
    began: int
    place: int = 0

    def take(self, board: Board) -> Form | None:
        """The form to send next. Raises FellBehindError."""
        if max(self.place, self.began) < board.lost:
            raise FellBehindError
        for form in board.after(self.place):
            self.place = form.place
            is_old_end = form.place <= self.began and not form.alert.life.is_open
            if not is_old_end and self.wanted.selects(form.alert):
                return form
        return None
