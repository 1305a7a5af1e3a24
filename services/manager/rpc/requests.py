"""What all requests have in common: ids, texts, pages, and calls that may be repeated."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.failures import InvalidRequest, Violation
from services.contract.paging import PageTokenError, decode_page_token, page_size
from services.domain.fingerprint import digest
from services.manager.core.queries.filters import Page
from services.manager.ports.commands import Request, RequestTable
from services.manager.rpc.failures import EtagMismatch, RequestIdReused

Answer = TypeVar("Answer", bound=Message)


def refuse(*violations: Violation) -> None:
    """Raise InvalidRequest naming these fields, if there are any."""
    if violations:
        fields = ", ".join(dict.fromkeys(violation.field for violation in violations))
        raise InvalidRequest(f"not allowed: {fields}", violations=violations)


def check(request: Message, *required: str) -> None:
    """Refuse a request without these fields, or with the character NUL, which the store cannot keep."""
    missing = [Violation(_json_name(name), "is required") for name in required if not getattr(request, name)]
    refuse(*missing, *(Violation(name, "must not contain the character NUL") for name in _with_nul(request)))


def check_length(request: Message, **longest: int) -> None:
    """Refuse texts that are longer than this many characters."""
    refuse(
        *(
            Violation(_json_name(name), f"is longer than {most} characters")
            for name, most in longest.items()
            if len(getattr(request, name)) > most
        )
    )


def check_etag(given: str, current: str) -> None:
    """Refuse a change that was made up from another version; an empty etag sets no condition."""
    if given and given != current:
        raise EtagMismatch("it was changed since it was read; read it again")


def page_of(size: int, token: str, *, filters: str, width: int) -> Page:
    """The page that is asked for; InvalidRequest names pageSize or pageToken."""
    problems: list[Violation] = []
    after: tuple[str, ...] = ()
    try:
        size = page_size(size)
    except ValueError as error:
        problems.append(Violation("pageSize", str(error)))
    try:
        after = decode_page_token(token, filters=filters, width=width)
    except PageTokenError as error:
        problems.append(Violation("pageToken", str(error)))
    refuse(*problems)
    return Page(size=size, after=after)


def repeatable(request: Message) -> Request | None:
    """What makes a call recognisable when it is repeated; None when it has no request_id."""
    request_id: str = request.request_id  # type: ignore[attr-defined]  # only for requests that have one
    if not request_id:
        return None
    try:
        name = str(UUID(request_id))
    except ValueError:
        refuse(Violation("requestId", "is not a UUID"))
        raise
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    body = rest.SerializeToString(deterministic=True).hex()
    return Request(id=name, body=digest(request.DESCRIPTOR.full_name, body))


async def once(
    requests: RequestTable,
    request: Request | None,
    kind: type[Answer],
    now: datetime,
    act: Callable[[], Awaitable[Answer]],
) -> Answer:
    """Act, or give what the first call with this id was answered. In the transaction in which `act` writes."""
    if request is None:
        return await act()
    first = await requests.first(request, now)
    if first is None:
        answer = await act()
        await requests.answer(request, answer.SerializeToString())
        return answer
    if first.body != request.body:
        raise RequestIdReused("this request_id was used for another request", request_id=request.id)
    return kind.FromString(first.answer)


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _with_nul(message: Message) -> Iterable[str]:
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield from _with_nul(value)
        elif any("\0" in text for text in _texts(value)):
            yield field.json_name


def _texts(value: object) -> Iterable[str]:
    """The texts of a field that is no message: one, several, or those of a map."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for text in pair if isinstance(text, str))
    elif not isinstance(value, bytes) and isinstance(value, Iterable):
        yield from (text for text in value if isinstance(text, str))
