"""Read silences from requests and write them as messages; create and end them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import Clock
from services.chassis.failures import Failure, Violation
from services.contract.timestamps import duration_of, timedelta_of, timestamp_of
from services.domain.matchers import MAX_MATCHERS
from services.domain.time_zones import time_zone
from services.manager.core.recurrence import Recurrence
from services.manager.core.recurrence_text import MAX_COUNT, parse_rule
from services.manager.core.silence import (
    MAX_SILENCES,
    Silence,
    SilenceState,
    duration_problem,
    expire,
    silence_problems,
)
from services.manager.ports.feeds import SilenceFeed
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import SilenceNotFound, TooManySilences
from services.manager.rpc.requests import (
    act_once,
    author_of,
    check_etag,
    check_fields,
    check_length,
    optional_time,
    read_matchers,
    refuse_if_any,
)
from tocsin.silences.v1 import silence_service_pb2 as pb
from tocsin.silences.v1.silence_pb2 import Recurrence as RecurrenceMessage
from tocsin.silences.v1.silence_pb2 import Silence as SilenceMessage

_STORED_FIELDS = ("id", "create_time", "etag", "state", "occurrence_start_time", "occurrence_end_time")


class SilenceCommands:
    """Creates and ends silences; a repeated call with a request_id does so once, one that validates only not at all."""

    def __init__(self, store: Store, clock: Clock, new_id: Callable[[], str], feed: SilenceFeed) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._feed = feed

    async def create(self, request: pb.CreateSilenceRequest) -> pb.CreateSilenceResponse:
        now = self._clock.now()
        check_fields(request)
        silence = read_silence(request.silence, self._new_id(), now)
        refuse_if_any(*(Violation(field, description) for field, description in silence_problems(silence, now=now)))

        async def act(transaction: Transaction) -> pb.CreateSilenceResponse:
            await _check_alerts(transaction, silence)
            revision = await transaction.silences.take_revision()
            if await transaction.silences.count(now) >= MAX_SILENCES:
                raise TooManySilences(f"there are {MAX_SILENCES} silences already, which is the maximum")
            await transaction.silences.upsert(silence, revision)
            return pb.CreateSilenceResponse(silence=silence_message(silence, now))

        response = await act_once(self._store, request, pb.CreateSilenceResponse, act, now=now)
        if request.validate_only:
            for field in _STORED_FIELDS:
                response.silence.ClearField(field)  # type: ignore[arg-type]  # they are fields of the message
            return response
        await self._take_effect()
        return response

    async def expire(self, request: pb.ExpireSilenceRequest) -> pb.ExpireSilenceResponse:
        """End a silence now; an expired one stays as it is, whatever the etag."""
        check_fields(request, "id")
        now = self._clock.now()

        async def act(transaction: Transaction) -> pb.ExpireSilenceResponse:
            silence = await transaction.silences.get_for_update(request.id)
            if silence is None:
                raise silence_not_found(request.id)
            if silence.state(now) is SilenceState.EXPIRED:
                return pb.ExpireSilenceResponse(silence=silence_message(silence, now), unchanged=True)
            check_etag(request.etag, silence.etag)
            silence = expire(silence, now=now)
            await transaction.silences.upsert(silence, await transaction.silences.take_revision())
            return pb.ExpireSilenceResponse(silence=silence_message(silence, now))

        response = await act_once(self._store, request, pb.ExpireSilenceResponse, act, now=now)
        await self._take_effect()
        return response

    async def _take_effect(self) -> None:
        """Have this instance know what was written before it responds; the others learn of it in a moment."""
        with suppress(Failure):
            await self._feed.refresh()


def silence_not_found(silence_id: str) -> SilenceNotFound:
    """Return the failure of a call that names an unknown silence."""
    return SilenceNotFound("there is no silence with this id", silence_id=silence_id)


def read_silence(message: SilenceMessage, silence_id: str, now: datetime) -> Silence:
    """Return what a message says, still to be checked; InvalidRequest names what cannot be read."""
    check_length(message, author=256, comment=4096)
    matchers = read_matchers("matchers", message.matchers)
    if len(matchers) > MAX_MATCHERS:
        refuse_if_any(Violation("matchers", f"has {len(matchers)} matchers, at most {MAX_MATCHERS} are allowed"))
    recurrence = _read_recurrence(message) if message.HasField("recurrence") else None
    start = optional_time(message, "start_time")
    return Silence(
        id=silence_id,
        author=author_of(message.author),
        comment=message.comment,
        create_time=now,
        start_time=now if start is None else start,
        matchers=matchers,
        alert_ids=tuple(dict.fromkeys(message.alert_ids)),
        end_time=optional_time(message, "end_time") if recurrence is None else recurrence.end,
        recurrence=recurrence,
    )


def silence_message(silence: Silence, now: datetime) -> SilenceMessage:
    """Return a silence as clients see it now."""
    state = silence.state(now)
    occurrence = None
    if silence.recurrence is not None and state is not SilenceState.EXPIRED:
        occurrence = silence.recurrence.occurrence(max(now, silence.start_time))
    start, end = occurrence or (None, None)
    return SilenceMessage(
        id=silence.id,
        state=SilenceMessage.State.Value(state.value),
        matchers=map(str, silence.matchers),
        alert_ids=silence.alert_ids,
        start_time=timestamp_of(silence.start_time),
        end_time=timestamp_of(silence.end_time),
        recurrence=_recurrence_message(silence.recurrence) if silence.recurrence else None,
        author=silence.author,
        comment=silence.comment,
        create_time=timestamp_of(silence.create_time),
        expire_time=timestamp_of(silence.expire_time),
        occurrence_start_time=timestamp_of(start),
        occurrence_end_time=timestamp_of(end),
        etag=silence.etag,
    )


def _recurrence_message(recurrence: Recurrence) -> RecurrenceMessage:
    return RecurrenceMessage(
        rule=recurrence.text,
        start_time=recurrence.start.isoformat(),
        time_zone=recurrence.zone.key,
        duration=duration_of(recurrence.duration),
    )


def _read_recurrence(message: SilenceMessage) -> Recurrence:
    """Return the recurrence with its end found; InvalidRequest names each part that cannot be read."""
    given = message.recurrence
    refuse_if_any(*_recurrence_violations(message))
    recurrence = Recurrence(
        rule=parse_rule(given.rule),
        text=given.rule,
        start=datetime.fromisoformat(given.start_time),
        zone=ZoneInfo(given.time_zone),
        duration=timedelta_of(given.duration),
    )
    try:
        return recurrence.bounded(MAX_COUNT)
    except ValueError as error:
        refuse_if_any(Violation("recurrence.rule", str(error)))
        raise


def _recurrence_violations(message: SilenceMessage) -> Iterator[Violation]:
    given = message.recurrence
    if message.HasField("end_time"):
        yield Violation("endTime", "does not go with recurrence; UNTIL or COUNT in its rule end it")
    start = optional_time(message, "start_time")
    if start is not None and not _FIRST_YEAR <= start.year <= _LAST_YEAR:
        yield Violation("startTime", f"is {start.isoformat()}, {_YEARS}")
    problems = {
        "rule": _rule_problem(given.rule),
        "startTime": _first_time_problem(given.start_time),
        "timeZone": ""
        if time_zone(given.time_zone)
        else f'found "{given.time_zone}", expected a zone such as Europe/Berlin',
        "duration": _duration_problem(given.duration),
    }
    yield from (Violation(f"recurrence.{field}", problem) for field, problem in problems.items() if problem)


def _rule_problem(text: str) -> str:
    try:
        until = parse_rule(text).until
    except ValueError as error:
        return str(error)
    is_allowed = until is None or _FIRST_YEAR <= until.year <= _LAST_YEAR
    return "" if is_allowed else f"UNTIL: {_YEARS}; without it there is no end"


def _first_time_problem(text: str) -> str:
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        start = None
    if start is None or start.tzinfo is not None or start.microsecond:
        return f'found "{text}", expected a time on the wall clock such as 2026-11-29T22:00:00'
    return "" if _FIRST_YEAR <= start.year <= _LAST_YEAR else f"is {text}, {_YEARS}"


def _duration_problem(duration: Duration) -> str:
    try:
        return duration_problem(timedelta_of(duration))
    except ValueError as error:
        return str(error)


_FIRST_YEAR, _LAST_YEAR = 2000, 2200
_YEARS = f"must be in the years {_FIRST_YEAR} to {_LAST_YEAR}"


async def _check_alerts(transaction: Transaction, silence: Silence) -> None:
    """Refuse ids of alerts that do not exist or are resolved."""
    violations = []
    for n, alert_id in enumerate(silence.alert_ids):
        alert = await transaction.alerts.get_for_update(alert_id)
        if alert is None or not alert.is_open:
            problem = "is not the id of an alert" if alert is None else "is the id of an alert that is resolved"
            violations.append(Violation(f"alertIds[{n}]", problem))
    refuse_if_any(*violations)
