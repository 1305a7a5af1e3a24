from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.dead_letters import encode_dead_letter
from tocsin.logs.v1.log_event_pb2 import DeadLetter


def test_a_dead_letter_names_the_record_the_reason_and_the_time() -> None:
    letter = encode_dead_letter(
        topic="alerts",
        partition=1,
        offset=7,
        reason="UNREADABLE",
        value=b"\xff",
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert DeadLetter.FromString(letter) == DeadLetter(
        topic="alerts",
        partition=1,
        offset=7,
        reason="UNREADABLE",
        value=b"\xff",
        create_time=Timestamp(seconds=1_767_225_600),
    )
