"""Calendars: what RFC 5545 asks for, also with texts that would break a line."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.on_call import OVERRIDE, OnCallShift
from services.manager.core.on_call_calendar import calendar_text
from tests.fakes.on_call import BERLIN, a_person, a_schedule
from tests.fakes.transitions import NOW

START = datetime(2026, 1, 5, 9, tzinfo=BERLIN)
SHIFT = OnCallShift(start=START, end=START + timedelta(weeks=1), person="ann", source="primary")


def unfolded(text: str) -> list[str]:
    return text.replace("\r\n ", "").split("\r\n")


def test_a_calendar_has_an_event_for_each_shift() -> None:
    over = OnCallShift(start=SHIFT.end, end=SHIFT.end + timedelta(hours=1), person="zoe", source=OVERRIDE)
    people = {"ann": a_person(display_name="Ann Ö, on duty; \\o/")}
    lines = unfolded(calendar_text(a_schedule(), [SHIFT, over], people, now=NOW))
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ("BEGIN:VCALENDAR", "VERSION:2.0", "END:VCALENDAR", "")
    assert lines[lines.index("BEGIN:VEVENT") : lines.index("END:VEVENT")][2:] == [
        f"DTSTAMP:{NOW:%Y%m%dT%H%M%SZ}",
        "DTSTART:20260105T080000Z",
        "DTEND:20260112T080000Z",
        r"SUMMARY:Ann Ö\, on duty\; \\o/ on call: payments",
        "DESCRIPTION:by layer primary",
        "TRANSP:TRANSPARENT",
    ]
    assert "SUMMARY:zoe on call: payments" in lines
    assert "DESCRIPTION:by an override" in lines


def test_a_shift_keeps_its_uid_and_no_two_have_the_same_one() -> None:
    def uids(now: datetime) -> list[str]:
        others = [
            OnCallShift(start=SHIFT.end, end=SHIFT.end + timedelta(weeks=1), person="ann", source="primary"),
            OnCallShift(start=SHIFT.start, end=SHIFT.end, person="ann", source="second"),
        ]
        text = calendar_text(a_schedule(), [SHIFT, *others], {"ann": a_person()}, now=now)
        return [line for line in unfolded(text) if line.startswith("UID:")]

    assert uids(NOW) == uids(NOW + timedelta(days=1))
    assert len(set(uids(NOW))) == 3
    in_utc = OnCallShift(start=START.astimezone(UTC), end=SHIFT.end, person="ann", source="primary")
    assert uids(NOW)[0] in calendar_text(a_schedule(), [in_utc], {}, now=NOW)


def test_a_line_break_in_a_text_makes_no_line_of_its_own() -> None:
    people = {"ann": a_person(display_name="a\r\nDTSTART:20200101T000000Z\nb\u2028c\0")}
    text = calendar_text(a_schedule(), [SHIFT], people, now=NOW)
    assert r"SUMMARY:a\nDTSTART:20200101T000000Z\nbc on call: payments" in unfolded(text)


def test_a_long_line_is_folded_between_two_characters() -> None:
    people = {"ann": a_person(display_name="é" * 64)}
    text = calendar_text(a_schedule(), [SHIFT], people, now=NOW)
    assert f"\r\nSUMMARY:{'é' * 33}\r\n {'é' * 31} on " in text


@given(name=st.text(max_size=300))
def test_no_line_is_longer_than_75_octets_and_no_character_is_cut(name: str) -> None:
    name = name.encode("utf-8", "ignore").decode()
    text = calendar_text(a_schedule(), [SHIFT], {"ann": a_person(display_name=name)}, now=NOW)
    lines = text.split("\r\n")
    assert all(len(line.encode()) <= 75 and "\n" not in line and "\r" not in line for line in lines)
    (summary,) = [line for line in unfolded(text) if line.startswith("SUMMARY:")]
    shown = "".join(char for char in name if char == "\n" or char.isprintable()) or "ann"
    escaped = shown.replace("\\", "\\\\").replace(";", r"\;").replace(",", r"\,").replace("\n", r"\n")
    assert summary == f"SUMMARY:{escaped} on call: payments" or not name.isprintable()
