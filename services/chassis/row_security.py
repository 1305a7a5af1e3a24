"""Row-level security: below each statement's own condition, PostgreSQL shows a transaction the rows of its tenant only.

A service works as the role `tocsin_<schema>`, which owns nothing and is no superuser; what serves all tenants (the
outbox's relay, retention, the rules for evaluators) works as `tocsin_<schema>_all` for a transaction. Both roles are
made with the schema and cannot log in: the service logs in as its own user (`database_login`), who is made a member,
and takes the role in each session. Row-level security is forced, so the owner of the tables is under it, too.

A table is under it when its column `tenant` has the transaction's tenant as its default. Where the user who migrates
may not create roles, and nobody has created them, the service's own conditions protect the rows alone, and each start
says so.
"""

import zlib
from collections.abc import Sequence

import asyncpg
import structlog

log = structlog.get_logger()

# At the end of a schema's comment.
SECURED = ", rows secured"

_TABLES = """
SELECT relname, relrowsecurity AND relforcerowsecurity AS is_secured
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'tenant'
JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND pg_get_expr(adbin, adrelid) LIKE '%current_tenant()%'
ORDER BY relname
"""
_SELECT_ROLES = "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)"
# A member has the role's rights only where it takes the role; before PostgreSQL 16 the member itself says so.
_GRANT = """
SELECT format('GRANT %I TO %I', $1::text, $2::text)
    || CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN ' WITH INHERIT FALSE' ELSE '' END
"""
_IS_MEMBER = "SELECT pg_has_role($1::name, $2::name, 'MEMBER')"
# Takes the role in this session where it was made for this schema and the user may; resetting the session keeps it.
_TAKE_ROLE = """
SELECT set_config('role', rolname, false) FROM pg_roles
WHERE rolname = $1 AND has_schema_privilege(rolname, to_regnamespace($2), 'USAGE')
    AND pg_has_role(session_user, rolname, 'MEMBER')
"""
# The same for a transaction, with the setting that the policy asks for.
SERVE_ALL = """
SELECT set_config('tocsin.tenant', '*', true), (
    SELECT set_config('role', rolname, true) FROM pg_roles
    WHERE rolname = $1 AND has_schema_privilege(rolname, to_regnamespace($2), 'USAGE')
        AND pg_has_role(session_user, rolname, 'MEMBER'))
"""


def role_of(schema: str) -> str:
    """Return the role that works for one tenant at a time."""
    return f"tocsin_{schema}"


def all_tenants_role_of(schema: str) -> str:
    """Return the role that works for all tenants."""
    return f"tocsin_{schema}_all"


async def take_role(connection: asyncpg.Connection, role: str, schema: str) -> None:
    """Make the session one of a role of the schema, where there is one and the user may."""
    await connection.execute(_TAKE_ROLE, role, schema)


async def secure_rows(connection: asyncpg.Connection, schema: str, user: str, *, is_secured: bool) -> bool:
    """Put the tables under row-level security, for `user` to work with; return whether it was done now.

    The connection is the owner's. Raises the driver's errors.
    """
    roles = (role_of(schema), all_tenants_role_of(schema))
    async with connection.transaction():
        # Several instances may start at once.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", zlib.crc32(f"rows {schema}".encode()))
        tables = await connection.fetch(_TABLES, schema)
        if not tables:
            return False
        if not is_secured and not await _create_roles(connection, roles):
            log.warning("row_security_off", schema=schema, missing=list(roles), problem="the user may not create roles")
            return False
        try:
            async with connection.transaction():
                await _add_member(connection, roles, user or await connection.fetchval("SELECT session_user::text"))
        except asyncpg.InsufficientPrivilegeError:
            log.warning(
                "row_security_off", schema=schema, roles=list(roles), problem="the user may not grant the roles"
            )
            return False
        if is_secured:
            return False
        for role in roles:
            await connection.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
            await connection.execute(
                f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO {role}'
            )
            # What has been migrated, the owner alone says.
            await connection.execute(f'REVOKE INSERT, UPDATE, DELETE ON "{schema}".alembic_version FROM {role}')
        for row in tables:
            if not row["is_secured"]:
                await _secure(connection, f'"{schema}"."{row["relname"]}"', schema)
    log.info("rows_secured", schema=schema)
    return True


async def _add_member(connection: asyncpg.Connection, roles: Sequence[str], user: str) -> None:
    for role in roles:
        if not await connection.fetchval(_IS_MEMBER, user, role):
            await connection.execute(await connection.fetchval(_GRANT, role, user))


async def _secure(connection: asyncpg.Connection, table: str, schema: str) -> None:
    function = f'"{schema}".current_tenant()'
    await connection.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    await connection.execute(f"CREATE POLICY own_tenant ON {table} USING (tenant = {function})")
    await connection.execute(
        f"CREATE POLICY all_tenants ON {table} TO {all_tenants_role_of(schema)} USING ({function} = '*')"
    )


async def _create_roles(connection: asyncpg.Connection, roles: Sequence[str]) -> bool:
    """Create the roles that are missing; return whether all are there now."""
    if await connection.fetchval(_SELECT_ROLES, list(roles)) == len(roles):
        return True
    for role in roles:
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE ROLE {role} NOLOGIN")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            # Roles belong to all databases of the server: another one's migration was faster.
            continue
        except asyncpg.InsufficientPrivilegeError:
            return False
    return True
