"""What followers of alerts are sent."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from services.domain.alert import Life, State
from services.domain.severity import Severity
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from services.manager.core.queries.following import Follower
from tests.unit.manager.stories import NOW, START, WINDOW, subject, word

ANY = AlertFilter()


def alert(name: str, version: int = 1, state: State = State.FIRING) -> Alert:
    life = Life(state=state, last_firing=word().verdict)
    return Alert(id=name, subject=subject(name), life=life, fire_time=START, update_time=NOW, version=version)


def drained(follower: Follower) -> list[Alert]:
    found: list[Alert] = []
    while taken := follower.take():
        found.append(taken)
    return found


def test_it_is_given_the_newest_form_of_each_alert_once() -> None:
    follower = Follower(ANY)
    for each in (alert("a"), alert("b"), alert("a", 3), alert("a", 2)):
        follower.offer(each)
    assert drained(follower) == [alert("a", 3), alert("b")]
    follower.offer(alert("a", 3))
    assert drained(follower) == []


def test_what_it_does_not_want_is_not_sent() -> None:
    follower = Follower(AlertFilter(resource="a"))
    follower.offer(alert("b"))
    assert drained(follower) == []


def test_one_that_is_too_slow_falls_behind_and_is_brought_up_to_date() -> None:
    follower = Follower(ANY, limit=2)
    for name in "abc":
        follower.offer(alert(name))
    assert follower.is_behind
    assert drained(follower) == []
    follower.is_behind = False
    assert follower.catch_up([alert("a"), alert("c", 2)]) == []
    assert drained(follower) == [alert("a"), alert("c", 2)]
    assert follower.catch_up([alert("c", 2), alert("d")]) == ["a"]
    assert drained(follower) == [alert("d")]


def test_many_open_alerts_do_not_count_against_its_limit() -> None:
    follower = Follower(ANY, limit=2)
    follower.catch_up([alert(str(n)) for n in range(10)])
    follower.offer(alert("new"))
    assert not follower.is_behind
    assert len(drained(follower)) == 11


@dataclass
class Watched:
    """Alerts that change, and one who follows them."""

    world: dict[str, Alert] = field(default_factory=dict)
    seen: dict[str, Alert] = field(default_factory=dict)
    follower: Follower = field(default_factory=lambda: Follower(ANY, limit=2))

    def look(self) -> None:
        self.follower.is_behind = False
        for name in self.follower.catch_up(each for each in self.world.values() if each.life.is_open):
            self.follower.offer(self.world[name])

    def take(self) -> None:
        if taken := self.follower.take():
            self.seen[taken.id] = taken

    def change(self, name: str, state: State) -> None:
        before = self.world.get(name)
        if before is None or before.life.is_open:
            self.world[name] = alert(name, before.version + 1 if before else 1, state)
            self.follower.offer(self.world[name])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.sampled_from(list(State))), st.sampled_from(["take", "behind", "look"])
        )
    )
)
def test_in_the_end_it_knows_every_open_alert_as_it_is(steps: list[tuple[str, State] | str]) -> None:
    watched = Watched()
    acts = {"take": watched.take, "behind": watched.follower.fall_behind, "look": watched.look}
    for step in steps:
        if isinstance(step, str):
            acts[step]()
        else:
            watched.change(*step)
    if watched.follower.is_behind:
        watched.look()
    watched.seen |= {each.id: each for each in drained(watched.follower)}
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


def test_one_that_was_seen_to_end_is_not_named_as_gone() -> None:
    follower = Follower(ANY)
    for each in (alert("a"), alert("b")):
        follower.offer(each)
    drained(follower)
    follower.offer(alert("a", 2, State.RESOLVED))
    assert drained(follower) == [alert("a", 2, State.RESOLVED)]
    assert follower.catch_up([]) == ["b"]
