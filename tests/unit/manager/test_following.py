"""What followers of alerts are sent."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.alert import Life, State
from services.domain.severity import Severity
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from services.manager.core.queries.following import Board, FellBehindError, Follower
from tests.unit.manager.stories import NOW, START, WINDOW, subject, word

ANY = AlertFilter()


def alert(name: str, version: int = 1, state: State = State.FIRING) -> Alert:
    life = Life(state=state, last_firing=word().verdict)
    return Alert(id=name, subject=subject(name), life=life, fire_time=START, update_time=NOW, version=version)


def board_of(*alerts: Alert, limit: int = 100) -> Board:
    board = Board(lambda each: each.id.encode(), limit)
    for each in alerts:
        board.put(each)
    return board


def drained(follower: Follower, board: Board) -> list[Alert]:
    found: list[Alert] = []
    while (form := follower.take(board)) is not None:
        found.append(form.alert)
    return found


def test_it_is_given_the_newest_form_of_each_alert_once() -> None:
    board, follower = board_of(), Follower(ANY, began=0)
    for each in (alert("a"), alert("b"), alert("a", 3), alert("a", 2)):
        board.put(each)
    assert drained(follower, board) == [alert("b"), alert("a", 3)]
    board.put(alert("a", 3))
    assert drained(follower, board) == []
    board.put(alert("a", 4, State.RESOLVED))
    assert drained(follower, board) == [alert("a", 4, State.RESOLVED)]


def test_what_it_does_not_want_is_not_sent() -> None:
    board = board_of(alert("b"))
    follower = Follower(AlertFilter(resource="a"), began=board.place)
    assert drained(follower, board) == []
    assert follower.place == board.place


def test_of_what_ended_before_it_began_it_hears_nothing() -> None:
    board = board_of(alert("a"), alert("b", 2, State.RESOLVED))
    assert drained(Follower(ANY, began=board.place), board) == [alert("a")]
    assert drained(Follower(ANY, began=0), board) == [alert("a"), alert("b", 2, State.RESOLVED)]


def test_a_slow_one_is_sent_away_when_an_end_that_it_was_not_sent_has_to_go() -> None:
    board = board_of(*(alert(name) for name in "abcd"), limit=2)
    quick, slow = (Follower(ANY, began=board.place) for _ in range(2))
    for name in "abcd":
        board.put(alert(name, 2, State.RESOLVED))
        drained(quick, board)
    with pytest.raises(FellBehindError):
        slow.take(board)
    late = Follower(ANY, began=board.place)
    assert drained(late, board) == []


def test_all_that_is_open_is_taken_in_and_what_is_not_any_more_is_named() -> None:
    board = board_of(alert("a"), alert("b"), alert("c", 2, State.RESOLVED))
    assert board.put_all_open([alert("b", 2), alert("d")]) == ["a"]
    board.remove("a")
    assert board.put_all_open([alert("b", 2), alert("d")]) == []
    assert drained(Follower(ANY, began=board.place), board) == [alert("b", 2), alert("d")]


def test_an_alert_is_encoded_once_for_all_and_outdated_forms_do_not_pile_up() -> None:
    encoded: list[str] = []
    board = Board(lambda each: encoded.append(each.id) or each.id.encode(), 10)  # type: ignore[func-returns-value]
    for version in range(1, 50):
        for name in ("a", "b", "c"):
            board.put(alert(name, version))
    sent = []
    for follower in [Follower(ANY, began=board.place) for _ in range(200)]:
        while (form := follower.take(board)) is not None:
            sent.append(board.encoded(form))
    assert encoded == ["a", "b", "c"]
    assert len(sent) == 600
    assert len({id(each) for each in sent}) == 3
    assert len(board._forms) <= 16


@dataclass
class Watched:
    """Alerts that change, and one who follows them."""

    world: dict[str, Alert] = field(default_factory=dict)
    seen: dict[str, Alert] = field(default_factory=dict)
    board: Board = field(default_factory=lambda: board_of(limit=3))
    follower: Follower = field(default_factory=lambda: Follower(ANY, began=0))

    def take(self) -> None:
        try:
            if form := self.follower.take(self.board):
                self.seen[form.alert.id] = form.alert
        except FellBehindError:
            # As a client does: it begins again.
            self.seen, self.follower = {}, Follower(ANY, began=self.board.place)

    def look(self) -> None:
        for name in self.board.put_all_open(each for each in self.world.values() if each.life.is_open):
            self.board.put(self.world[name])

    def change(self, name: str, state: State, *, is_heard: bool) -> None:
        before = self.world.get(name)
        if before is None or before.life.is_open:
            self.world[name] = alert(name, before.version + 1 if before else 1, state)
            if is_heard:
                self.board.put(self.world[name])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdefg"), st.sampled_from(list(State)), st.booleans()),
            st.sampled_from(["take", "look"]),
        )
    )
)
def test_in_the_end_it_knows_every_open_alert_as_it_is(steps: list[tuple[str, State, bool] | str]) -> None:
    watched = Watched()
    acts = {"take": watched.take, "look": watched.look}
    for step in steps:
        if isinstance(step, str):
            acts[step]()
        else:
            name, state, is_heard = step
            watched.change(name, state, is_heard=is_heard)
    watched.look()
    while watched.follower.place < watched.board.place:
        watched.take()
    still_open = {name: each for name, each in watched.world.items() if each.life.is_open}
    assert {name: each for name, each in watched.seen.items() if each.life.is_open} == still_open


def test_a_filter_selects_by_all_that_is_given() -> None:
    found = alert("a")
    assert AlertFilter(states=(State.FIRING,), severities=(Severity.HIGH,), rule_id="rule-1", resource="a").selects(
        found
    )
    for wanted in (
        AlertFilter(states=(State.RESOLVED,)),
        AlertFilter(severities=(Severity.LOW,)),
        AlertFilter(rule_id="other"),
        AlertFilter(resource="other"),
        AlertFilter(fired_after=START + WINDOW),
        AlertFilter(fired_before=START),
    ):
        assert not wanted.selects(found)
    assert AlertFilter(fired_after=START, fired_before=START + WINDOW).selects(replace(found))
