"""What a batch of the evaluator's transitions makes of the alerts."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.domain.alert import Ended, Fired, Life, Memory, Reason, Verdict, observe, remember
from services.manager.core.alert import Alert, Subject
from services.manager.core.commands.change import Change, begun, recovered, repeated

Episode = tuple[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One word of the evaluator about one fingerprint."""

    id: str
    subject: Subject
    word: Fired | Ended

    @property
    def fingerprint(self) -> str:
        """Whose alert it is about."""
        return self.subject.fingerprint

    @property
    def verdict(self) -> Verdict:
        """When and about which episode it was decided."""
        return self.word.verdict

    @property
    def episode(self) -> Episode:
        """Which episode of which fingerprint it is about."""
        return self.fingerprint, self.verdict.episode

    @property
    def key(self) -> tuple[str, str]:
        """What must come once. The severity is in the fingerprint but not in the id, hence both."""
        return self.id, self.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one transition, and the change when there is one."""

    transition: Transition
    reason: Reason
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """What is known before a batch: open alerts by fingerprint, what was said of its episodes, and what was done."""

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
    alert = book.open.get(transition.fingerprint)
    memory = replace(book.past.get(transition.episode, Memory()), alert=alert.life if alert else None)
    life, reason = observe(memory, transition.word)
    change = _change(transition, alert, life, memory, now)
    book.done.add(transition.key)
    book.past[transition.episode] = remember(memory, transition.word)
    if change is not None:
        book.open.pop(transition.fingerprint, None)
        if change.alert.life.is_open:
            book.open[transition.fingerprint] = change.alert
    return Outcome(transition=transition, reason=reason, change=change)


def _change(
    transition: Transition, alert: Alert | None, life: Life | None, memory: Memory, now: datetime
) -> Change | None:
    if life is None:
        return None
    if alert is None:
        return _begun(transition, life, memory, now)
    if life.is_open:
        return repeated(alert, transition.id, life, transition.verdict, now=now)
    return recovered(alert, life, transition.verdict, now=now)


def _begun(transition: Transition, life: Life, memory: Memory, now: datetime) -> Change:
    change = begun(transition.subject, transition.id, life, now=now)
    if life.is_open or memory.ended is None:
        return change
    # Its end came first: both are told now, so that nobody misses what happened.
    over = recovered(change.alert, life, memory.ended, now=now)
    return Change(alert=over.alert, entries=change.entries + over.entries, notices=change.notices + over.notices)
