"""Zones, moments about which their clocks change, and a clock that never goes back, to compare with."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "America/New_York",
        "America/St_Johns",
        # Its clock changes at midnight.
        "America/Santiago",
        # By half an hour.
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ]
).map(ZoneInfo)

# Near the changes of one of the zones, and anywhere in a year.
_CHANGES = (
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 4, 5, 3, tzinfo=UTC),
    datetime(2026, 9, 6, 4, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
)
MOMENTS = st.one_of(
    st.builds(
        lambda change, minutes: change + timedelta(minutes=minutes),
        st.sampled_from(_CHANGES),
        st.integers(-36 * 60, 36 * 60),
    ),
    st.builds(
        lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes), st.integers(0, 366 * 24 * 60)
    ),
)
# No clock goes back by more.
_LONGEST_BACK = 90


def highest_shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the latest time that the zone's clock has shown until a moment, looking at each minute."""
    return max(
        (moment - timedelta(minutes=minutes)).astimezone(zone).replace(tzinfo=None, fold=0)
        for minutes in range(_LONGEST_BACK)
    )
