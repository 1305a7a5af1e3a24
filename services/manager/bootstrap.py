"""Make a key without a key: `python -m services.manager.bootstrap --name NAME`, for whoever reaches the database.

It takes MANAGER_DATABASE_URL and what belongs to it from the environment, and prints one line of JSON: `id`, `name`,
`role`, `tenant` and `text`, the only copy of the key. Exit codes: 0 done, 1 the database does not answer, 2 refused.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

import grpc
import structlog
from uuid_utils import uuid7

from services.access.audit import audit_record_of
from services.access.guard import CallRecord
from services.access.key_snapshot import KeySnapshots
from services.chassis.callers import Caller, CallOutcome, KnownCall, as_caller
from services.chassis.failures import Failure, InvalidRequest
from services.chassis.migrations import prepare_schema
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, SettingsError, load_settings, part
from services.domain.roles import Role
from services.manager.adapters.key_source import StoredKeySource
from services.manager.adapters.postgres.api_keys import PostgresApiKeyReader
from services.manager.adapters.postgres.audit import PostgresAuditReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.rpc.access import AccessRpc
from services.manager.settings import PREFIX
from services.manager.worker.audit import StoredAuditSink
from tocsin.access.v1 import access_service_pb2 as pb
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.api_key_pb2 import ApiKey

_EXIT_UNREACHABLE, _EXIT_REFUSED = 1, 2
_CREATOR = Caller(name="bootstrap", role=Role.ADMIN.value, kind="database")
_METHOD = "/tocsin.access.v1.AccessService/CreateKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    """What is needed of the manager's settings."""

    postgres: PostgresSettings = part()


async def create_key(settings: BootstrapSettings, key: ApiKey) -> pb.CreateKeyResponse:
    """Make a key in the manager's table, created if need be, with an entry in the audit log. Raises Failure."""
    await prepare_schema(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings.postgres, schema=SCHEMA) as database:
        await database.sync_clock()
        with as_caller(_CREATOR):
            response = await _rpc(database).CreateKey(pb.CreateKeyRequest(key=key), None)
        call = CallRecord(
            at=database.clock.now(),
            call=KnownCall(method=_METHOD, metadata={}),
            caller=_CREATOR,
            outcome=CallOutcome(code=grpc.StatusCode.OK, resource=response.key.id),
        )
        record = audit_record_of(call, service="manager", record_id=str(uuid7()), trace_id="")
        await StoredAuditSink(PostgresStore(database)).write([record])
        return response


def _rpc(database: Database) -> AccessRpc:
    store, reader = PostgresStore(database), PostgresApiKeyReader(database)
    snapshots = KeySnapshots(StoredKeySource(store, reader, database.clock))
    audit = PostgresAuditReader(database)
    return AccessRpc(store, reader, audit, snapshots, database.clock, token_bytes)


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Make the key that the arguments ask for, and print it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.manager.bootstrap")
    parser.add_argument("--name", required=True, help="who acts with the key")
    roles = [role.value for role in Role if role is not Role.SERVICE]
    parser.add_argument("--role", choices=roles, default=Role.ADMIN.value, help="default: admin")
    parser.add_argument("--tenant", default="", help="default: the tenant default")
    chosen = parser.parse_args(arguments)
    key = ApiKey(name=chosen.name, role=Access.Role.Value(chosen.role.upper()), tenant=chosen.tenant)
    try:
        settings = load_settings(BootstrapSettings, PREFIX, environ)
        response = asyncio.run(create_key(settings, key))
    except SettingsError as error:
        return _refused(*error.problems)
    except InvalidRequest as failure:
        return _refused(*(f"{each.field}: {each.description}" for each in failure.violations))
    except Failure as failure:
        sys.stderr.write(f"{failure.reason}: {failure.text}\n")
        return _EXIT_UNREACHABLE
    made: dict[str, Any] = {name: getattr(response.key, name) for name in ("id", "name", "tenant")}
    sys.stdout.write(json.dumps({**made, "role": chosen.role, "text": response.text}) + "\n")
    return 0


def _refused(*problems: str) -> int:
    sys.stderr.write("".join(f"{problem}\n" for problem in problems))
    return _EXIT_REFUSED


if __name__ == "__main__":
    # Standard output has the key alone.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(run(sys.argv[1:], os.environ))  # noqa: TID251  (read once, as a service reads it)
