"""What a batch of the evaluator's transitions makes of the alerts."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.domain.alert import Ended, Fired, Life, Memory, Reason, Verdict, observe, remember
from services.manager.core.alert import Alert, Subject
from services.manager.core.commands.change import Change, begun, recovered, repeated, superseded, updated

Episode = tuple[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One word of the evaluator about one group of one rule."""

    id: str
    subject: Subject
    word: Fired | Ended

    @property
    def open_key(self) -> str:
        """Whose open alert it is about."""
        return self.subject.open_key

    @property
    def verdict(self) -> Verdict:
        """When and about which episode it was decided."""
        return self.word.verdict

    @property
    def episode(self) -> Episode:
        """Which episode of which group it is about."""
        return self.open_key, self.verdict.episode

    @property
    def key(self) -> tuple[str, str]:
        """What must come once. The severity is in the fingerprint but not in the id, hence both."""
        return self.id, self.subject.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one transition, and the change when there is one.

    A raised severity makes two: the end of the alert before, and the beginning of the one that takes its place.
    """

    transition: Transition
    reason: Reason
    change: Change | None = None
    before: Change | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, in their order."""
        return tuple(change for change in (self.before, self.change) if change is not None)


@dataclass(frozen=True, slots=True)
class Book:
    """What is known before a batch: open alerts by their open key, what was said of its episodes, and what was done."""

    open: dict[str, Alert] = field(default_factory=dict)
    past: dict[Episode, Memory] = field(default_factory=dict)
    done: set[tuple[str, str]] = field(default_factory=set)

    def copy(self) -> "Book":
        """One to write in."""
        return Book(dict(self.open), dict(self.past), set(self.done))


def decide(known: Book, transitions: Iterable[Transition], now: datetime) -> tuple[Book, list[Outcome]]:
    """What each transition does, in this order; those done before, or earlier in the batch, do nothing."""
    book = known.copy()
    return book, [_decide(book, transition, now) for transition in transitions]


def _decide(book: Book, transition: Transition, now: datetime) -> Outcome:
    if transition.key in book.done:
        return Outcome(transition=transition, reason=Reason.DELIVERED_AGAIN)
    alert = book.open.get(transition.open_key)
    memory = replace(book.past.get(transition.episode, Memory()), alert=alert.life if alert else None)
    life, reason = observe(memory, transition.word)
    change = _change(transition, alert, life, memory, reason, now)
    before = None
    if reason is Reason.RAISED and alert is not None and change is not None:
        before = superseded(alert, change.alert.id, transition.verdict, now=now)
    book.done.add(transition.key)
    book.past[transition.episode] = remember(memory, transition.word)
    if change is not None:
        book.open.pop(transition.open_key, None)
        if change.alert.life.is_open:
            book.open[transition.open_key] = change.alert
    return Outcome(transition=transition, reason=reason, change=change, before=before)


def _change(
    transition: Transition, alert: Alert | None, life: Life | None, memory: Memory, reason: Reason, now: datetime
) -> Change | None:
    if life is None:
        return None
    if alert is None or reason is Reason.RAISED:
        return _begun(transition, life, memory, now)
    if reason is Reason.UPDATED:
        return updated(alert, transition.id, life, transition.subject, now=now)
    if life.is_open:
        return repeated(alert, transition.id, life, transition.verdict, transition.subject, now=now)
    return recovered(alert, life, transition.verdict, now=now)


def _begun(transition: Transition, life: Life, memory: Memory, now: datetime) -> Change:
    change = begun(transition.subject, transition.id, life, now=now)
    if life.is_open or memory.ended is None:
        return change
    # Its end came first: both are told now, so that nobody misses what happened.
    over = recovered(change.alert, life, memory.ended, now=now)
    return Change(alert=over.alert, entries=change.entries + over.entries, notices=change.notices + over.notices)
