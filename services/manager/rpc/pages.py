"""Pages of lists: which one a request asks for, and what stands in it."""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import Message

from services.chassis.failures import Violation
from services.contract.paging import MAX_PAGE_SIZE, PageTokenError, decode_page_token, key_time, page_size
from services.manager.messages.rules import PAGE_BYTES
from services.manager.ports.readers import Page
from services.manager.rpc.requests import refuse_if_any

# With filters that the store cannot evaluate, so many of its pages are read for one page of the answer.
_MAX_SCANNED_PAGES = 10

_Message = TypeVar("_Message", bound=Message)
_Row = TypeVar("_Row")
_Selected = TypeVar("_Selected")
# The time, in ISO form, and the id of a row that is listed by these.
TimeKey = tuple[str, str]


def page_of(size: int, token: str, *, filters: str, width: int) -> Page:
    """Return the page that is asked for; InvalidRequest names pageSize or pageToken."""
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
    refuse_if_any(*problems)
    return Page(size=size, after=after)


def page_by_time(size: int, token: str, *, filters: str) -> Page:
    """Return the page that is asked for of rows in the order of a time and an id; InvalidRequest as `page_of`."""
    page = page_of(size, token, filters=filters, width=2)
    if page.after:
        try:
            key_time(page.after[0])
        except PageTokenError as error:
            refuse_if_any(Violation("pageToken", str(error)))
    return page


def first_page(
    keys: Sequence[str], page: Page, message_of: Callable[[str], _Message]
) -> tuple[list[_Message], tuple[str] | None]:
    """Return the messages of a page of keys that are in their order, and the key of the last one when there are more.

    A page ends early when its messages are larger than PAGE_BYTES together; it has at least one of those that are left.
    """
    rest = keys[bisect_right(keys, page.after[0]) :] if page.after else keys
    messages: list[_Message] = []
    size = 0
    for key in rest[: page.size]:
        message = message_of(key)
        size += message.ByteSize()
        if messages and size > PAGE_BYTES:
            break
        messages.append(message)
    return messages, (rest[len(messages) - 1],) if len(messages) < len(rest) else None


async def scan_page(
    read: Callable[[Page], Awaitable[Sequence[_Row]]],
    page: Page,
    select: Callable[[_Row], _Selected | None],
    key_of: Callable[[_Row], TimeKey],
    *,
    selects_all: bool,
) -> tuple[list[_Selected], TimeKey | None]:
    """Return what is selected for a page, and the key of the last row that was looked at when there may be more.

    `read` returns up to one row more than the size that it is asked for. What is not selected is None; with
    `selects_all` nothing is, and no more is read than the page needs.
    """
    selected: list[_Selected] = []
    scan = page if selects_all else replace(page, size=MAX_PAGE_SIZE)
    for _ in range(_MAX_SCANNED_PAGES):
        rows = await read(scan)
        for row in rows[: scan.size]:
            found = select(row)
            if found is not None:
                selected.append(found)
            if len(selected) == page.size:
                return selected, key_of(row) if row is not rows[-1] else None
        if len(rows) <= scan.size:
            return selected, None
        scan = replace(scan, after=key_of(rows[scan.size - 1]))
    return selected, (scan.after[0], scan.after[1])
