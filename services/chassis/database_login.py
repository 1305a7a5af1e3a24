"""The user with whom a service logs in at PostgreSQL: created at its migration, with no rights of its own.

Whoever migrates owns the tables. The service logs in as another user, who may do nothing but take the roles of
`row_security`: who gets out of a role has less than before. A user who was created here gets the password that the
settings have, also when that changes; one that somebody else has created keeps its own.
"""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import unquote

import asyncpg
import structlog

from services.chassis.postgres_connections import PostgresConnector, user_of
from services.chassis.server_urls import split_server_url
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_CONNECT_SECONDS = 2.0
_ITERATIONS = 4096
# By which a user is known as created here.
_COMMENT = "created by tocsin for its services"
_SELECT_USER = """
SELECT rolsuper OR rolbypassrls OR EXISTS (
    SELECT FROM pg_namespace WHERE nspname = $2 AND pg_has_role(rolname, nspowner, 'USAGE')
) AS is_privileged, shobj_description(oid, 'pg_authid') AS comment
FROM pg_roles WHERE rolname = $1
"""
# Quoted by the server, which has the rules.
_CREATE = "SELECT format('CREATE ROLE %I LOGIN NOINHERIT PASSWORD %L', $1::text, $2::text)"
_REMARK = "SELECT format('COMMENT ON ROLE %I IS %L', $1::text, $2::text)"
_CHANGE = "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)"


async def ensure_login(owner: asyncpg.Connection, settings: PostgresSettings, schema: str) -> None:
    """Create the service's user where it is missing; where it was created here, have its password be the settings'.

    The connection is that of the user who migrates. Where both are the same, or the user has rights of its own, a
    warning is logged. Raises the driver's errors.
    """
    name = user_of(settings) or await owner.fetchval("SELECT session_user::text")
    found = await owner.fetchrow(_SELECT_USER, name, schema)
    if found is None:
        await _create(owner, name, _password_of(settings))
    elif found["is_privileged"]:
        log.warning("database_user_found_privileged", schema=schema, user=name)
    elif found["comment"] == _COMMENT:
        await _keep_password(owner, name, settings)


async def _create(owner: asyncpg.Connection, name: str, password: str) -> None:
    try:
        async with owner.transaction():
            await owner.execute(await owner.fetchval(_CREATE, name, _verifier(password)))
            await owner.execute(await owner.fetchval(_REMARK, name, _COMMENT))
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        # Users belong to all databases of the server, and several instances start at once.
        return
    except asyncpg.InsufficientPrivilegeError:
        log.warning("database_user_missing", user=name, problem="the user who migrates may not create it")
        return
    log.info("database_user_created", user=name)


async def _keep_password(owner: asyncpg.Connection, name: str, settings: PostgresSettings) -> None:
    password = _password_of(settings)
    if not password:
        return
    try:
        connection = await PostgresConnector(settings).open(timeout=_CONNECT_SECONDS)
    except asyncpg.InvalidPasswordError:
        await owner.execute(await owner.fetchval(_CHANGE, name, _verifier(password)))
        log.info("database_password_changed", user=name)
    else:
        await connection.close(timeout=_CONNECT_SECONDS)


def _password_of(settings: PostgresSettings) -> str:
    return settings.database_password.reveal() or unquote(
        split_server_url(settings.database_url.reveal()).password or ""
    )


def _verifier(password: str) -> str | None:
    """Return what the server keeps of a password for SCRAM-SHA-256, so that no log of statements has the password.

    None without one. What is not ASCII has to be prepared by the server's own rules, and is returned as it is.
    """
    if not password:
        return None
    if not password.isascii():
        return password
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client, server = (hmac.digest(salted, part, "sha256") for part in (b"Client Key", b"Server Key"))
    keys = (salt, hashlib.sha256(client).digest(), server)
    encoded = [base64.b64encode(key).decode() for key in keys]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
