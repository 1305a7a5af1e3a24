"""What the schema of a service with tenants has in common with others."""

# Of the transaction's setting; without one, which is how a former release works beside this one, the default tenant.
# It is inlined into the statements that use it.
FUNCTION = """
CREATE FUNCTION current_tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('tocsin.tenant', true), ''), 'default')
"""
SET_TENANT = "SELECT set_config('tocsin.tenant', $1, true)"
