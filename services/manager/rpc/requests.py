"""What requests have in common: required fields, texts, times, etags, matchers, and how they are carried out."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.callers import current_caller
from services.chassis.failures import InvalidRequest, Violation
from services.chassis.request_ids import request_id_of, respond_once
from services.contract.timestamps import datetime_of
from services.domain.matchers import LabelMatcher, MatcherError, parse_matchers
from services.domain.severity import Severity
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import EtagMismatch
from services.rule_language.label_regex import compile_regex
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_Response = TypeVar("_Response", bound=Message)

_MAX_MATCHER_TEXTS = 8
_MAX_ACTOR = 256
# Who acts when the caller does not say.
_ANONYMOUS = "anonymous"


async def act_once(
    store: Store,
    request: Message,
    response_type: type[_Response],
    act: Callable[[Transaction], Awaitable[_Response]],
    *,
    now: datetime,
) -> _Response:
    """Act in a transaction, once for each request_id; what validates only is rolled back. Raises as `respond_once`."""
    validate_only: bool = getattr(request, "validate_only", False)
    # A wrong request_id is refused also when the call validates only.
    request_id_of(request)
    async with store.transaction(commit=not validate_only) as transaction:
        if validate_only:
            return await act(transaction)
        return await respond_once(request, transaction.requests, response_type, lambda: act(transaction), now=now)


def refuse_if_any(*violations: Violation) -> None:
    """Raise InvalidRequest, which names these fields, if there are any."""
    if violations:
        fields = ", ".join(dict.fromkeys(violation.field for violation in violations))
        raise InvalidRequest(f"not allowed: {fields}", violations=violations)


def check_fields(request: Message, *required: str) -> None:
    """Refuse a request without these fields, or with the character NUL, which the store cannot hold."""
    missing = [Violation(_json_name(name), "is required") for name in required if not getattr(request, name)]
    refuse_if_any(
        *missing, *(Violation(name, "must not contain the character NUL") for name in fields_with_nul(request))
    )


def check_length(request: Message, **limits: int) -> None:
    """Refuse texts that are longer than their limit in characters."""
    refuse_if_any(
        *(
            Violation(_json_name(name), f"is longer than {limit} characters")
            for name, limit in limits.items()
            if len(getattr(request, name)) > limit
        )
    )


def unknown_choice(field: str, value: int, choices: Iterable[str]) -> Violation:
    """Return that a field has none of these words: nothing, or the number of none."""
    return Violation(field, f"{f'found {value}, expected' if value else 'is required:'} one of {', '.join(choices)}")


def check_choices(field: str, values: Sequence[int], choices: Sequence[tuple[str, int]]) -> None:
    """Refuse each of the values that is none of these choices, names with numbers."""
    known = {number: name for name, number in choices}
    wrong = (
        unknown_choice(f"{field}[{n}]", each, known.values()) for n, each in enumerate(values) if each not in known
    )
    refuse_if_any(*wrong)


def check_etag(etag: str, current: str) -> None:
    """Refuse a change that was made for another version; an empty etag sets no condition."""
    if etag and etag != current:
        raise EtagMismatch("it was changed since it was read; read it again")


def optional_time(message: Message, field: str) -> datetime | None:
    """Return the time in a field, None where it is not set; InvalidRequest names the field when it is out of range."""
    if not message.HasField(field):
        return None
    timestamp: Timestamp = getattr(message, field)
    try:
        return datetime_of(timestamp)
    except ValueError as error:
        refuse_if_any(Violation(_json_name(field), str(error)))
        raise


def fields_with_nul(message: Message) -> Iterable[str]:
    """Yield the names, as in JSON, of the fields with the character NUL, also of messages in fields of their own."""
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield from fields_with_nul(value)
        elif field.message_type and not isinstance(value, Mapping):
            yield from (name for each in value for name in fields_with_nul(each))
        elif any("\0" in text for text in _texts(value)):
            yield field.json_name


def actor_of(text: str) -> str:
    """Return who acts: the caller whose credentials were checked, else who it says it is."""
    return author_of(text) or _ANONYMOUS


def author_of(text: str) -> str:
    """Return who acts, as `actor_of` does; empty where the caller has no credentials and says nothing."""
    caller = current_caller()
    return text.strip() if caller.is_anonymous else (caller.name or caller.id)[:_MAX_ACTOR]


def read_severities(values: Sequence[int]) -> tuple[Severity, ...]:
    """Return the severities that a request lists; InvalidRequest names each that is none."""
    check_choices("severities", values, AlertRule.Severity.items()[1:])
    return tuple(Severity(value) for value in values)


def read_matchers(field: str, texts: Sequence[str]) -> tuple[LabelMatcher, ...]:
    """Return the matchers of all texts; InvalidRequest names the field, the text's place in it, line and column."""
    if len(texts) > _MAX_MATCHER_TEXTS:
        refuse_if_any(Violation(field, f"has {len(texts)} texts, at most {_MAX_MATCHER_TEXTS} are allowed"))
    matchers: list[LabelMatcher] = []
    for n, text in enumerate(texts):
        try:
            matchers += parse_matchers(text, compile_regex)
        except MatcherError as error:
            refuse_if_any(Violation(f"{field}[{n}]", str(error)))
    return tuple(matchers)


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _texts(value: object) -> Iterable[str]:
    """Yield the strings of a field that is not a message: one, several, or those of a map."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for text in pair if isinstance(text, str))
    elif not isinstance(value, bytes) and isinstance(value, Iterable):
        yield from (text for text in value if isinstance(text, str))
