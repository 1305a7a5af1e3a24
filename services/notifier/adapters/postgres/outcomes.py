"""The outcomes of attempts, with all that follows from them: none is written without the rest, and none twice.

A channel's deliveries end faster than a transaction commits. So an outcome waits a moment for those of the attempts
that are being made, and what comes while others are being written is written together. No channel waits for that: it is
called again meanwhile. A failure of a channel, and a recovery, lead to more
than the delivery's own row: these have transactions of their own. So has each outcome of a batch that the database
refuses as a whole, so that one of them cannot hold up the others.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg

from services.chassis import outbox
from services.chassis.failures import StoreUnavailable
from services.chassis.kafka import Headers
from services.chassis.loops import wait_for_event
from services.chassis.postgres import Connection, Database
from services.chassis.telemetry import trace_headers
from services.contract.topics import NOTIFICATION_RESULTS
from services.notifier.adapters.postgres.bundles import rewrite_bundle
from services.notifier.adapters.postgres.deliveries import (
    DELIVERY_COLUMNS,
    FIRST_SEQUENCE,
    NewDelivery,
    delivery_of,
    insert_deliveries,
    lock_subjects,
)
from services.notifier.adapters.postgres.queue import IS_QUEUED
from services.notifier.core.bundle import is_bundle, is_notice
from services.notifier.core.delivery import AttemptKind, Delivery, DeliveryState, is_first_failure
from services.notifier.core.routing import DeliveryTarget, fallback_targets, gets_from_fallback, is_exhausted
from services.notifier.messages import UnreadableNotificationError, decode_notification, encode_result
from services.notifier.ports import DeliveryOutcome

# The ids are given twice: so they are looked up, also while the planner takes the table for short. Only the holder of
# the lease may write an outcome; except that a delivery that was accepted is delivered, whoever holds the lease now.
_UPDATE = """
UPDATE deliveries
SET state = ended.state, turn = ended.turn, attempt_count = ended.attempt_count, due_at = ended.due_at,
    reason = ended.reason, last_error = ended.last_error, failed_at = ended.failed_at, updated_at = ended.updated_at,
    holder = '', recipient = ended.recipient
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::integer[], $6::timestamptz[], $7::text[], $8::text[],
            $9::timestamptz[], $10::timestamptz[], $11::integer[], $12::text[])
     AS ended (id, state, turn, attempt_count, due_at, reason, last_error, failed_at, updated_at, leased_count,
               recipient)
WHERE deliveries.id = ended.id AND deliveries.id = ANY ($2)
  AND (deliveries.state = 'IN_FLIGHT' AND deliveries.holder = $1 AND deliveries.attempt_count = ended.leased_count
       OR ended.state = 'DELIVERED' AND deliveries.state <> 'DELIVERED')
RETURNING deliveries.id
"""

# Each part has an index of its own, and subjects are looked up one after the other: the planner takes the queue, or the
# whole table, for as short as it was when its statistics were taken, and would read all of it. What is in a bundle that
# this channel has not taken, perhaps a fallback has: its alerts are not told of here any more, and count as delivered
# all the same.
_SUPERSEDE = """
WITH newer AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[])
         AS newer (subject_id, channel, sequence, delivered_at)
), held AS (
    UPDATE deliveries SET state = 'SUPERSEDED', updated_at = newer.delivered_at FROM newer
    WHERE deliveries.subject_id = newer.subject_id AND deliveries.channel = newer.channel
      AND deliveries.sequence < newer.sequence AND deliveries.state = 'HELD' AND deliveries.bundle_id IS NULL
), older AS (
    SELECT mine.id, newer.delivered_at FROM newer, LATERAL (
        SELECT id FROM deliveries
        WHERE subject_id = newer.subject_id AND channel = newer.channel
          AND sequence < newer.sequence AND state IN ('PENDING', 'FAILED')
        FOR UPDATE
    ) AS mine
), superseded AS (
    UPDATE deliveries SET state = 'SUPERSEDED', updated_at = older.delivered_at FROM older
    WHERE deliveries.id = older.id AND deliveries.id = ANY (ARRAY(SELECT id FROM older))
), bundled AS (
    SELECT held.id, held.bundle_id, newer.delivered_at
    FROM newer, LATERAL (
        SELECT id, bundle_id FROM deliveries
        WHERE subject_id = newer.subject_id AND sequence < newer.sequence
          AND bundle_id IS NOT NULL AND state IN ('HELD', 'DELIVERED')
        OFFSET 0
    ) AS held
    WHERE (SELECT state FROM deliveries AS bundle
           WHERE bundle.notification_id = held.bundle_id AND bundle.channel = newer.channel) IN ('FAILED', 'PENDING')
), held_in_bundles AS (
    UPDATE deliveries SET state = 'SUPERSEDED', updated_at = bundled.delivered_at FROM bundled
    WHERE deliveries.id = bundled.id AND deliveries.state = 'HELD'
)
SELECT DISTINCT bundle_id FROM bundled
"""

_REDRIVE = f"""
UPDATE deliveries
SET state = 'PENDING', turn = 'REGULAR', round_start = attempt_count, due_at = $2, updated_at = $2
WHERE {IS_QUEUED} AND channel = $1 AND state = 'FAILED' AND reason <> 'REFUSED'
"""  # noqa: S608 - our own condition

_POSTPONE_PROBES = f"""
UPDATE deliveries SET due_at = $2 WHERE {IS_QUEUED} AND channel = $1 AND state = 'FAILED' AND due_at < $2
"""  # noqa: S608 - our own condition

_DELIVER_BUNDLED = f"""
UPDATE deliveries SET state = 'DELIVERED', recipient = $2, updated_at = $3
WHERE bundle_id = $1 AND state = 'HELD' RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - nothing but column names is put in

_SELECT_STATES = "SELECT channel, state FROM deliveries WHERE notification_id = $1"
_EXHAUST = "UPDATE notifications SET exhausted_at = $2 WHERE id = $1 AND exhausted_at IS NULL RETURNING id"

# Later ones that are held go to the fallback with their bundle.
_SELECT_FROM_ON = """
SELECT id, record, ARRAY(SELECT channel FROM deliveries WHERE notification_id = mine.id) AS channels
FROM notifications AS mine
WHERE subject_id = $1 AND sequence >= $2
  AND (id = $3 OR NOT EXISTS (SELECT 1 FROM deliveries WHERE notification_id = mine.id AND state = 'HELD'))
ORDER BY sequence
"""


# A plan for each batch would cost more than running it, and is always the same: by the ids.
_PLAN_ONCE = "SET LOCAL plan_cache_mode = force_generic_plan"
# For so long an outcome waits for others at most; where no attempt is being made it does not wait.
_LINGER = timedelta(milliseconds=20)
# As many as one statement takes well; the workers of all channels are fewer.
_MAX_BATCH = 200


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An outcome that is to be written, in whose trace, and who waits for that."""

    outcome: DeliveryOutcome
    now: datetime
    headers: Headers
    written: "asyncio.Future[frozenset[str]]"


class PostgresDeliveryOutcomes:
    """Writes the outcomes of one instance."""

    def __init__(
        self,
        database: Database,
        *,
        instance: str,
        fallbacks: Mapping[str, tuple[str, ...]],
        probe_interval: timedelta,
    ) -> None:
        self._database = database
        self.linger = _LINGER
        self._instance = instance
        self._fallbacks = fallbacks
        self._probe_interval = probe_interval
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._attempts = 0
        # No attempt is being made.
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        self._attempts += 1
        self._is_quiet.clear()
        try:
            yield
        finally:
            self._attempts -= 1
            if not self._attempts:
                self._is_quiet.set()

    async def record(self, outcome: DeliveryOutcome, *, now: datetime) -> frozenset[str]:
        if not _is_of_one_row(outcome):
            return await self._database.run_idempotent(partial(self._record, outcome=outcome, now=now))
        written: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(outcome, now, trace_headers(), written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting(), name="write outcomes")
        return await written

    async def _write_waiting(self) -> None:
        """Write what waits, until nothing does."""
        try:
            while self._waiting:
                await wait_for_event(self._is_quiet, self.linger)
                await self._write_batch(self._pop_batch())
        finally:
            self._writing = None

    def _pop_batch(self) -> list[_Waiting]:
        """Return what is written next; of a delivery whose lease has ended meanwhile there may be two outcomes."""
        batch: dict[UUID, _Waiting] = {}
        rest = []
        for each in self._waiting:
            if len(batch) == _MAX_BATCH or each.outcome.after.id in batch:
                rest.append(each)
            else:
                batch[each.outcome.after.id] = each
        self._waiting = rest
        return list(batch.values())

    async def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            await self._database.run_idempotent(partial(self._record_all, batch=batch))
        except StoreUnavailable as failure:
            _fail(batch, failure)
        except Exception as error:  # noqa: BLE001 - whoever waits for the outcome gets it
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for each in batch:
                    await self._write_batch([each])
        else:
            for each in batch:
                if not each.written.done():
                    each.written.set_result(frozenset())

    async def _record_all(self, connection: Connection, *, batch: Sequence[_Waiting]) -> None:
        """Write outcomes that change nothing but the deliveries' own rows, and those before them."""
        await connection.execute(_PLAN_ONCE)
        own = await self._update(connection, [(each.outcome, each.now) for each in batch])
        delivered = [
            each
            for each in batch
            if each.outcome.after.id in own and each.outcome.after.state is DeliveryState.DELIVERED
        ]
        await _supersede(connection, [(each.outcome.after, each.now) for each in delivered])
        await _insert_delivered(connection, [(each.outcome.after, each.now, each.headers) for each in delivered])

    async def _record(self, connection: Connection, *, outcome: DeliveryOutcome, now: datetime) -> frozenset[str]:
        before, after = outcome.before, outcome.after
        if not await self._update(connection, [(outcome, now)]):
            return frozenset()
        channels: set[str] = set()
        if after.state is DeliveryState.DELIVERED:
            await _supersede(connection, [(after, now)])
            await _insert_delivered(connection, [(after, now, trace_headers())])
        if after.state is DeliveryState.FAILED:
            channels |= await self._record_failure(connection, before, after, now)
        if outcome.channel_recovered:
            await connection.execute(_REDRIVE, after.channel, now)
            channels.add(after.channel)
        elif before.attempt_kind is AttemptKind.PROBE:
            await connection.execute(_POSTPONE_PROBES, after.channel, now + self._probe_interval)
        return frozenset(channels)

    async def _update(
        self, connection: Connection, outcomes: Sequence[tuple[DeliveryOutcome, datetime]]
    ) -> frozenset[UUID]:
        """Write the new states; return the deliveries of which this instance may."""
        rows = [_ended_row(outcome, now) for outcome, now in outcomes]
        updated = await connection.fetch(_UPDATE, self._instance, *map(list, zip(*rows, strict=True)))
        return frozenset(row["id"] for row in updated)

    async def _record_failure(
        self, connection: Connection, before: Delivery, after: Delivery, now: datetime
    ) -> frozenset[str]:
        """Insert the deliveries to fallbacks, and the result; return the channels of the new deliveries."""
        # Two channels of one notification that fail at the same moment must see each other: one after the other, and
        # a statement of its own reads the states, after the lock.
        await lock_subjects(connection, [after.subject_id])
        states = {
            row["channel"]: DeliveryState(row["state"])
            for row in await connection.fetch(_SELECT_STATES, after.notification_id)
        }
        is_first = is_first_failure(before, after)
        targets = fallback_targets(self._fallbacks, states) if is_first else ()
        channels = await self._insert_fallbacks(connection, after, targets, now)
        exhausted = (
            await connection.fetch(_EXHAUST, after.notification_id, now)
            if not channels and is_exhausted(states.values())
            else []
        )
        if is_first or exhausted:
            await _insert_result(connection, after, now, is_exhausted=bool(exhausted))
        return channels

    async def _insert_fallbacks(
        self, connection: Connection, failed: Delivery, targets: Sequence[DeliveryTarget], now: datetime
    ) -> frozenset[str]:
        # A fallback that gets the beginning of a subject also gets its end, even if that came in meanwhile.
        about = (failed.subject_id, failed.sequence, failed.notification_id)
        rows = await connection.fetch(_SELECT_FROM_ON, *about) if targets else []
        deliveries = [
            NewDelivery(row["id"], target.channel, target.fallback_for)
            for row in rows
            for target in targets
            if _takes(target, row)
        ]
        inserted = await insert_deliveries(connection, deliveries, now=now)
        return frozenset(each.channel for each in inserted)


def _takes(target: DeliveryTarget, row: asyncpg.Record) -> bool:
    """Return whether a fallback takes a notification; one that cannot be read is refused when it is sent."""
    try:
        notification = decode_notification(row["record"])
    except UnreadableNotificationError:
        return True
    if notification.closes_superseded:
        return False
    return gets_from_fallback(target, receivers=notification.receivers, channels=row["channels"])


def _is_of_one_row(outcome: DeliveryOutcome) -> bool:
    """Return whether nothing follows from an outcome for other channels, or for other deliveries of its own."""
    is_probe = outcome.before.attempt_kind is AttemptKind.PROBE
    return outcome.after.state is not DeliveryState.FAILED and not outcome.channel_recovered and not is_probe


def _ended_row(outcome: DeliveryOutcome, now: datetime) -> tuple[Any, ...]:
    after = outcome.after
    return (
        after.id,
        after.state.value,
        after.attempt_kind.value,
        after.attempt_count,
        after.due_time,
        after.reason.value if after.reason else None,
        after.last_error,
        after.fail_time,
        now,
        outcome.before.attempt_count,
        after.recipient,
    )


async def _supersede(connection: Connection, delivered: Sequence[tuple[Delivery, datetime]]) -> None:
    """Write that nothing older about the same subjects is sent any more, also in bundles that have failed."""
    rows = [
        (delivery.subject_id, delivery.channel, delivery.sequence, now)
        for delivery, now in delivered
        if delivery.sequence > FIRST_SEQUENCE
    ]
    if rows:
        for bundle in await connection.fetch(_SUPERSEDE, *map(list, zip(*rows, strict=True))):
            await rewrite_bundle(connection, bundle["bundle_id"], max(now for _, now in delivered))


async def _insert_result(
    connection: Connection, delivery: Delivery, now: datetime, *, is_exhausted: bool = False
) -> None:
    if is_notice(delivery.subject_id):
        # It is about no alert.
        return
    result = _result(delivery, now, trace_headers(), is_exhausted=is_exhausted)
    await outbox.put_all(connection, NOTIFICATION_RESULTS, [result])


async def _insert_delivered(connection: Connection, delivered: Sequence[tuple[Delivery, datetime, Headers]]) -> None:
    """Insert the results of what was delivered; of a bundle those of what is in it, which is delivered too."""
    results = []
    for delivery, now, headers in delivered:
        ended = []
        if is_bundle(delivery.subject_id):
            rows = await connection.fetch(_DELIVER_BUNDLED, delivery.notification_id, delivery.recipient, now)
            ended = [delivery_of(row) for row in rows]
        elif not is_notice(delivery.subject_id):
            ended = [delivery]
        results += [_result(each, now, headers) for each in ended]
    await outbox.put_all(connection, NOTIFICATION_RESULTS, results)


def _result(delivery: Delivery, now: datetime, headers: Headers, *, is_exhausted: bool = False) -> outbox.OutboxRecord:
    return outbox.OutboxRecord(
        key=delivery.alert_id.encode(),
        value=encode_result(delivery, now, is_exhausted=is_exhausted),
        headers=headers,
    )


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for each in batch:
        if not each.written.done():
            each.written.set_exception(error)
