"""Single events go together, but not too many and not too large."""

from datetime import timedelta

import pytest

from services.ingest.core.gathering import Gathering, Step

POLICY = Gathering(wait=timedelta(milliseconds=3), max_events=3, max_bytes=100)


@pytest.mark.parametrize(
    ("events", "size", "incoming", "step"),
    [
        pytest.param(0, 0, 10, Step.WAIT, id="the first waits for others"),
        pytest.param(1, 10, 10, Step.WAIT, id="the second too"),
        pytest.param(2, 20, 10, Step.SEND, id="the last that fits sends all"),
        pytest.param(1, 50, 50, Step.WAIT, id="exactly full in bytes"),
        pytest.param(1, 50, 51, Step.MAKE_ROOM, id="too large together"),
        pytest.param(0, 0, 101, Step.WAIT, id="alone it may be as large as it is"),
    ],
)
def test_a_step_follows_from_what_waits(events: int, size: int, incoming: int, step: Step) -> None:
    assert POLICY.step(events=events, size=size, incoming=incoming) is step


def test_without_waiting_each_event_goes_at_once() -> None:
    assert Gathering(wait=timedelta(0), max_events=3, max_bytes=9).step(events=0, size=0, incoming=1) is Step.SEND


@pytest.mark.parametrize("bad", [{"max_events": 0, "max_bytes": 1}, {"max_events": 1, "max_bytes": 0}])
def test_a_policy_that_can_never_send_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Gathering(wait=timedelta(0), **bad)
