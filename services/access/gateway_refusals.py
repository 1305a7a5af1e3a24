"""Calls that Envoy itself refused, as it reports them: each becomes an entry of the audit log.

Envoy's access log sends what stack/envoy_refusals.py lists, by the names below; what a call does not have is "-". Who
called is what Envoy found out: of credentials that are not valid it says nothing, and nothing of them is sent.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import grpc

from services.access.authentication import CERTIFICATE_HEADER, ROLE_HEADER, caller_at_gateway
from services.chassis.callers import DEFAULT_TENANT, PermissionDenied, Unauthenticated
from services.domain.audit_record import MAX_RESOURCE, AuditOutcome, AuditRecord

# Envoy's word for a call that its limit of calls refused; what it refuses for who called is the other.
RATE_LIMITED = "local_rate_limited"
ACCESS_DENIED = "rbac_access_denied"
# Those of the rpc, or where it was refused before the rpc was known, those of REST.
VERB, PATH = "verb", "path"
RESPONSE_DETAILS, ADDRESS, REQUEST_ID, TRACE_ID = "details", "address", "request_id", "trace_id"
_ABSENT = "-"
_SERVICE = "gateway"


def refusal_at_gateway(
    reported: Mapping[str, str], *, at: datetime, record_id: str, find_rpc: Callable[[str, str], str]
) -> AuditRecord:
    """Return the entry of a call that Envoy refused; `find_rpc` is that of `rpc_finder`."""
    found = {name: value for name, value in reported.items() if value != _ABSENT}
    caller = caller_at_gateway(found)
    code, reason = _answered(found)
    path = found.get(PATH, "").partition("?")[0][:MAX_RESOURCE]
    rpc = find_rpc(found.get(VERB, ""), path)
    return AuditRecord(
        id=record_id,
        create_time=at,
        tenant=caller.tenant if caller else DEFAULT_TENANT,
        actor=caller.name if caller else "",
        actor_kind=caller.kind if caller else "",
        actor_id=caller.id if caller else "",
        role=caller.role if caller else "",
        method=rpc.lstrip("/"),
        resource="" if path == rpc else path,
        peer_address=found.get(ADDRESS, "")[:MAX_RESOURCE],
        request_id=found.get(REQUEST_ID, "")[:MAX_RESOURCE],
        trace_id=found.get(TRACE_ID, ""),
        outcome=AuditOutcome.REFUSED,
        code=code.name,
        reason=reason,
        service=_SERVICE,
    )


def _answered(found: Mapping[str, str]) -> tuple[grpc.StatusCode, str]:
    """Return the status that Envoy has answered with, by the rules of envoy/answers.yaml, and its reason."""
    if found.get(RESPONSE_DETAILS) == RATE_LIMITED:
        return grpc.StatusCode.RESOURCE_EXHAUSTED, ""
    kind = PermissionDenied if {ROLE_HEADER, CERTIFICATE_HEADER} & set(found) else Unauthenticated
    return kind.code, kind.reason
