"""Check routing trees of requests, and set them as new versions."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure, Violation
from services.chassis.request_ids import request_id_of
from services.contract.timestamps import timestamp_of
from services.manager.core.on_call_records import OnCallKind
from services.manager.core.routing_checks import RoutingProblem, routing_problems, routing_warnings
from services.manager.core.routing_tree import FILE_AUTHOR, RoutingTree, StoredTree, TreeVersion
from services.manager.messages.routing import read_routing_tree, routing_tree_message
from services.manager.ports.feeds import ReceiverFeed, RoutingFeed
from services.manager.ports.readers import RoutingReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import RoutingNotFound
from services.manager.rpc.requests import act_once, actor_of, check_etag, check_fields, check_length, refuse_if_any
from tocsin.routing.v1 import routing_service_pb2 as pb
from tocsin.routing.v1.routing_tree_pb2 import RoutingTree as TreeMessage

log = structlog.get_logger()

_MAX_BYTES = 256 << 10
_STORED_FIELDS = ("version", "create_time", "etag")
_UNCHECKED = "the notifier did not answer, so the names of receivers were not checked"

_Request = pb.SetRoutingRequest | pb.RollbackRoutingRequest
_Response = TypeVar("_Response", pb.SetRoutingResponse, pb.RollbackRoutingResponse)


class RoutingChecker:
    """Says what is wrong with a tree, given the receivers and policies of this moment."""

    def __init__(self, receivers: ReceiverFeed, policies: Callable[[], Collection[str]]) -> None:
        self._receivers = receivers
        self._policies = policies

    async def read(self, message: TreeMessage) -> tuple[RoutingTree, list[pb.RoutingWarning]]:
        """Return the tree of a request, and what may not be meant in it; InvalidRequest names each field."""
        if not message.HasField("root"):
            refuse_if_any(Violation("tree.root", "is required"))
        if message.ByteSize() > _MAX_BYTES:
            refuse_if_any(Violation("tree", f"has {message.ByteSize()} bytes, at most {_MAX_BYTES} are allowed"))
        # Compiling many regular expressions takes long enough to do it beside the event loop.
        tree, unreadable = await asyncio.to_thread(read_routing_tree, message)
        return tree, await self.check(tree, unreadable)

    async def check(self, tree: RoutingTree, unreadable: Collection[RoutingProblem] = ()) -> list[pb.RoutingWarning]:
        """Refuse a tree that is not allowed, or of which something could not be read; return what may not be meant."""
        names = await self._names()
        found = routing_problems(tree, receivers=names, policies=self._policies())
        # What could not be read is not missing.
        found = [each for each in found if not any(field.startswith(each[0]) for field, _ in unreadable)]
        refuse_if_any(*(Violation(f"tree.{field}", description) for field, description in (*unreadable, *found)))
        warnings = [
            pb.RoutingWarning(field=f"tree.{field}", description=description)
            for field, description in routing_warnings(tree)
        ]
        return warnings if names is not None else [*warnings, pb.RoutingWarning(field="tree", description=_UNCHECKED)]

    async def _names(self) -> Collection[str] | None:
        try:
            return (await self._receivers.receivers()).names
        except Failure as failure:
            log.warning("receivers_not_checked", reason=failure.reason)
            return None


class RoutingCommands:
    """Sets trees; a repeated call with a request_id does so once, one that validates only not at all."""

    def __init__(
        self, store: Store, reader: RoutingReader, clock: Clock, feed: RoutingFeed, checker: RoutingChecker
    ) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock
        self._feed = feed
        self._checker = checker

    async def set(self, request: pb.SetRoutingRequest) -> pb.SetRoutingResponse:
        _check_texts(request)
        tree, warnings = await self._checker.read(request.tree)
        response = await self._run(request, pb.SetRoutingResponse(warnings=warnings), tree, request.comment)
        if request.validate_only:
            for field in _STORED_FIELDS:
                response.routing.ClearField(field)  # type: ignore[arg-type]  # they are fields of the message
        return response

    async def rollback(self, request: pb.RollbackRoutingRequest) -> pb.RollbackRoutingResponse:
        """Set the tree of an earlier version again."""
        check_fields(request, "version")
        _check_texts(request)
        earlier = await self._reader.get(request.version)
        if earlier is None:
            raise routing_not_found(request.version)
        response = pb.RollbackRoutingResponse(warnings=await self._checker.check(earlier.tree))
        comment = request.comment or f"back to version {earlier.version}"
        return await self._run(request, response, earlier.tree, comment)

    async def _run(self, request: _Request, response: _Response, tree: RoutingTree, comment: str) -> _Response:
        """Write a tree that was checked, and fill in the response."""
        response = await act_once(
            self._store,
            request,
            type(response),
            lambda transaction: self._write(request, response, tree, comment, transaction),
            now=self._clock.now(),
        )
        # So that this instance knows what was written before it responds; the others learn of it in a moment.
        with suppress(Failure):
            await self._feed.refresh()
        return response

    async def _write(
        self, request: _Request, response: _Response, tree: RoutingTree, comment: str, transaction: Transaction
    ) -> _Response:
        newest = await transaction.routing.lock()
        if newest is not None and newest.tree == tree:
            response.unchanged = True
            response.routing.CopyFrom(routing_message(newest))
            return response
        check_etag(request.etag, newest.etag if newest else "")
        await _check_policies(tree, transaction)
        stored = StoredTree(
            tree=tree,
            version=newest.version + 1 if newest else 1,
            author=actor_of(request.author),
            comment=comment,
            create_time=self._clock.now(),
        )
        await transaction.routing.insert(stored)
        response.routing.CopyFrom(routing_message(stored))
        return response


async def _check_policies(tree: RoutingTree, transaction: Transaction) -> None:
    """Refuse a tree whose policy was deleted since it was checked; who deletes one holds the tree's lock as well."""
    if not tree.policies():
        return
    known = (await transaction.on_call.load()).names(OnCallKind.POLICY)
    problems = routing_problems(tree, receivers=None, policies=known)
    refuse_if_any(*(Violation(f"tree.{field}", description) for field, description in problems))


def routing_not_found(version: int) -> RoutingNotFound:
    """Return the failure of a call that names a version that is not kept, or 0 while no tree was ever set."""
    if not version:
        return RoutingNotFound("no routing tree was ever set: the routes of the notifier's file decide")
    return RoutingNotFound("there is no such version of the routing tree", version=str(version))


def routing_message(stored: TreeVersion) -> pb.Routing:
    """Return a version as clients see it, with the tree if it has one."""
    return pb.Routing(
        tree=routing_tree_message(stored.tree) if isinstance(stored, StoredTree) else None,
        version=stored.version,
        author=stored.author,
        comment=stored.comment,
        create_time=timestamp_of(stored.create_time),
        etag=stored.etag,
    )


def _check_texts(request: _Request) -> None:
    check_fields(request)
    request_id_of(request)
    check_length(request, author=256, comment=4096)
    if actor_of(request.author) == FILE_AUTHOR:
        refuse_if_any(Violation("author", "is the one of versions that were taken from the notifier's file"))
