"""The life of an alert: what each step makes of it, and why.

An *episode* is one trouble of one fingerprint, named by the start of the window with which it began. The evaluator
says when an episode fires (perhaps again in later windows) and when it ends; people acknowledge and resolve. Its words
may come twice, late and in any order: the functions here find the same end from all of them.

A rule that is edited while its episode is open is said again, under its newer revision. A raised severity makes
another alert of the same episode, which takes the open one's place and is told; anything else changes the open alert's
words and is told to nobody.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self, assert_never

from services.domain.severity import Severity


class State(StrEnum):
    """Where an alert stands; the names are those of the contract."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class Reason(StrEnum):
    """What became of a step, and why: the first eight changed something."""

    FIRED = "fired"
    # Its end was known before its beginning: the alert is told and told to be over.
    FIRED_AND_OVER = "fired_and_over"
    REPEATED = "repeated"
    # The rule was edited: the open alert says so from now on.
    UPDATED = "updated"
    # The rule's severity was raised: another alert takes the open one's place.
    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    RECOVERED = "recovered"
    RESOLVED_BY_HAND = "resolved_by_hand"
    # The same transition was done before.
    DELIVERED_AGAIN = "delivered_again"
    # It belongs to an episode that was told and has ended since.
    LATE = "late"
    # Its alert is over already, by hand or by the end of a later episode: quiet until another episode begins.
    EPISODE_CLOSED = "episode_closed"
    # The end of an episode before the one that is open.
    ENDED_BEFORE = "ended_before"
    NOT_OPEN = "not_open"
    ALREADY_ACKNOWLEDGED = "already_acknowledged"
    ALREADY_RESOLVED = "already_resolved"
    # Who is resolved cannot be acknowledged.
    IS_OVER = "is_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """When, and under which revision and severity of the rule, the evaluator decided something about an episode.

    `selection` is the revision of the rule at which its counting last began afresh; 0 where an evaluator of the former
    release did not say it.
    """

    episode: datetime
    selection: int
    revision: int
    time: datetime
    severity: Severity

    def is_after(self, other: Self) -> bool:
        """Whether this is about another beginning than `other`: a later episode, or the same window counted afresh."""
        if self.episode != other.episode:
            return self.episode > other.episode
        return self.selection > other.selection > 0

    def is_edited_from(self, other: Self) -> bool:
        """Whether this says the same beginning, or a later one, in newer words of the rule."""
        return not other.is_after(self) and self.revision > other.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The part of an alert that its steps change."""

    state: State
    last_firing: Verdict
    repeat_count: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the trouble still stands; at most one alert of a fingerprint does."""
        return self.state is not State.RESOLVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is known of one fingerprint when word of an episode comes: the open alert, and that episode's past."""

    alert: Life | None = None
    fired: Verdict | None = None
    ended: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """The evaluator saw the condition become true, or true again."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ended:
    """The evaluator saw the episode end."""

    verdict: Verdict


class Command(StrEnum):
    """What people do to an alert."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


def observe(memory: Memory, word: Fired | Ended) -> tuple[Life | None, Reason]:
    """What the evaluator's word makes of the open alert; the life is None when there is none to change."""
    match word:
        case Fired(verdict):
            return _fired(memory, verdict)
        case Ended(verdict):
            return _ended(memory, verdict)
        case _:  # pragma: no cover
            assert_never(word)


def remember(memory: Memory, word: Fired | Ended) -> Memory:
    """The episode's past with this word in it, whatever the word did to the alert."""
    match word:
        case Fired(verdict):
            return replace(memory, fired=_newer(memory.fired, verdict))
        case Ended(verdict):
            return replace(memory, ended=_newer(memory.ended, verdict))
        case _:  # pragma: no cover
            assert_never(word)


def obey(life: Life, command: Command) -> tuple[Life, Reason]:
    """What a person's command makes of an alert; doing it twice changes nothing the second time."""
    match command, life.state:
        case Command.ACKNOWLEDGE, State.FIRING:
            return replace(life, state=State.ACKNOWLEDGED), Reason.ACKNOWLEDGED
        case Command.ACKNOWLEDGE, State.ACKNOWLEDGED:
            return life, Reason.ALREADY_ACKNOWLEDGED
        case Command.ACKNOWLEDGE, _:
            return life, Reason.IS_OVER
        case _, State.RESOLVED:
            return life, Reason.ALREADY_RESOLVED
        case _:
            return replace(life, state=State.RESOLVED), Reason.RESOLVED_BY_HAND


def _fired(memory: Memory, verdict: Verdict) -> tuple[Life | None, Reason]:
    is_over = memory.ended is not None and not verdict.is_after(memory.ended)
    if is_over and memory.fired is not None:
        return None, Reason.LATE
    if memory.alert is not None:
        return _fired_while_open(memory.alert, verdict, is_over=is_over)
    if is_over:
        return Life(state=State.RESOLVED, last_firing=verdict), Reason.FIRED_AND_OVER
    if memory.fired is not None and not _is_news(verdict, memory.fired):
        return None, Reason.EPISODE_CLOSED
    return Life(state=State.FIRING, last_firing=verdict), Reason.FIRED


def _ended(memory: Memory, verdict: Verdict) -> tuple[Life | None, Reason]:
    if memory.alert is None:
        return None, Reason.NOT_OPEN
    if memory.alert.last_firing.is_after(verdict):
        return None, Reason.ENDED_BEFORE
    return replace(memory.alert, state=State.RESOLVED), Reason.RECOVERED


def _fired_while_open(life: Life, verdict: Verdict, *, is_over: bool) -> tuple[Life, Reason]:
    last = life.last_firing
    # What is over already must not keep the alert open: its end will not come again.
    if is_over:
        return replace(life, repeat_count=life.repeat_count + 1), Reason.REPEATED
    if verdict.is_edited_from(last) and verdict.severity > last.severity:
        return Life(state=State.FIRING, last_firing=verdict), Reason.RAISED
    if verdict.is_edited_from(last) and not verdict.is_after(last):
        return replace(life, last_firing=verdict), Reason.UPDATED
    # A later beginning in older words leaves the words as they are.
    words = verdict if verdict.is_edited_from(last) else last
    beginning = replace(verdict, revision=words.revision, severity=words.severity)
    later = beginning if verdict.is_after(last) else last
    return replace(life, repeat_count=life.repeat_count + 1, last_firing=later), Reason.REPEATED


def _is_news(verdict: Verdict, fired: Verdict) -> bool:
    """Whether people are to be told of an episode whose alert they have closed: it began anew, or is graver now."""
    return verdict.is_after(fired) or (verdict.is_edited_from(fired) and verdict.severity > fired.severity)


def _newer(known: Verdict | None, verdict: Verdict) -> Verdict:
    def key(of: Verdict) -> tuple[int, int, datetime]:
        return of.selection, of.revision, of.time

    return verdict if known is None or key(verdict) > key(known) else known
