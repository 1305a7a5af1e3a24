"""When a client's statistics say that Kafka is silent."""

import json

import pytest

from services.chassis.kafka.silence import is_silent, silence_config

NEVER = (-1, 0)
# Microseconds since a broker said something, and how many requests wait for it.
CASES = {
    "frozen": ([(6_000_000, 1), (7_000_000, 1), NEVER], True),
    "nothing is asked": ([(6_000_000, 0)], False),
    "one of three brokers is frozen": ([(6_000_000, 1), (80_000, 1), (900_000, 0)], False),
    "slow": ([(4_900_000, 1)], False),
    "no broker was reached yet": ([(-1, 1)], False),
    "no broker is known": ([], False),
}


def statistics(brokers: list[tuple[int, int]]) -> str:
    return json.dumps(
        {"brokers": {str(n): {"rxidle": idle, "waitresp_cnt": count} for n, (idle, count) in enumerate(brokers)}}
    )


@pytest.mark.parametrize(("brokers", "expected"), CASES.values(), ids=list(CASES))
def test_kafka_is_silent_while_a_request_waits_and_nothing_comes(
    brokers: list[tuple[int, int]],
    expected: bool,  # noqa: FBT001  (a parameter of the table)
) -> None:
    assert is_silent(statistics(brokers)) is expected


def test_a_client_says_so_each_time() -> None:
    told: list[bool] = []
    handle = silence_config(lambda: told.append(True))["stats_cb"]
    handle(statistics([(80_000, 1)]))
    assert told == []
    handle(statistics([(6_000_000, 1)]))
    assert told == [True]
