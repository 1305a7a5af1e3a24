"""Silences, as tests of the manager need them."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.domain.matchers import parse_matchers
from services.manager.core.recurrence import Recurrence
from services.manager.core.recurrence_text import parse_rule
from services.manager.core.silence import Silence
from services.rule_language.label_regex import compile_regex
from tests.fakes.transitions import NOW

HOUR = timedelta(hours=1)
# On the wall clock of UTC.
_START = NOW.replace(tzinfo=None)


def a_silence(matchers: str = "service=payment-service", **changed: Any) -> Silence:
    values: dict[str, Any] = {
        "id": "s",
        "author": "ann",
        "comment": "a deployment",
        "create_time": NOW,
        "start_time": NOW,
        "end_time": NOW + HOUR,
        "matchers": parse_matchers(matchers, compile_regex),
    }
    return Silence(**values | changed)


def recurring(text: str, duration: timedelta = HOUR, start: datetime = _START, zone: str = "UTC") -> Recurrence:
    rule = parse_rule(text)
    return Recurrence(rule=rule, text=text, start=start, zone=ZoneInfo(zone), duration=duration).bounded(1000)
