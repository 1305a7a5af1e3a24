"""Envoy's report of the calls that it refuses itself: an access log that goes to the manager, for the audit log.

What Envoy lets through and a service refuses, the service records. An entry has no credentials and nothing of what was
sent. All attributes must be valid UTF-8, since the manager cannot read a batch in which one is not: what a client may
choose is made plain before (envoy/envoy.yaml), or escaped by Envoy.
"""

import json

from services.access.authentication import CERTIFICATE_HEADER, NAME_HEADER, ROLE_HEADER, TENANT_HEADER
from services.access.gateway_refusals import (
    ACCESS_DENIED,
    ADDRESS,
    PATH,
    RATE_LIMITED,
    REQUEST_ID,
    RESPONSE_DETAILS,
    TRACE_ID,
    VERB,
)

_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers"
_REFUSED = f"response.code_details.startsWith('{ACCESS_DENIED}') || response.code_details == '{RATE_LIMITED}'"
_MAX_PATH = 256
# A batch of about a thousand entries, or what came within a second.
_BATCH_BYTES = 256 * 1024

# While no manager answers; the cluster limits how many batches wait.
_RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset,unavailable",
    "num_retries": 60,
    "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
}

_ATTRIBUTES = {
    VERB: "%REQ(:METHOD)%",
    PATH: f"%REQ(:PATH):{_MAX_PATH}%",
    RESPONSE_DETAILS: "%RESPONSE_CODE_DETAILS%",
    ADDRESS: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    TRACE_ID: "%TRACE_ID%",
    **{name: f"%REQ({name})%" for name in (NAME_HEADER, ROLE_HEADER, TENANT_HEADER, CERTIFICATE_HEADER)},
}


def refusal_log(*, is_on: bool, is_mesh: bool = False) -> str:
    """Return the access log of refused calls, as JSON, of the edge's listeners or of the mesh; nothing where it is off.

    In the mesh the request id is the calling service's own text, and is left out.
    """
    if not is_on:
        return ""
    attributes = _ATTRIBUTES if is_mesh else _ATTRIBUTES | {REQUEST_ID: "%REQ(X-REQUEST-ID)%"}
    values = [{"key": name, "value": {"string_value": value}} for name, value in attributes.items()]
    config = {
        "@type": f"{_LOGGERS}.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        "log_name": "mesh" if is_mesh else "edge",
        "stat_prefix": "refusals.",
        "grpc_service": {"envoy_grpc": {"cluster_name": "refusals"}, "timeout": "30s", "retry_policy": _RETRIES},
        "buffer_flush_interval": "1s",
        "buffer_size_bytes": _BATCH_BYTES,
        "disable_builtin_labels": True,
        "attributes": {"values": values},
    }
    refused = {"@type": f"{_LOGGERS}.filters.cel.v3.ExpressionFilter", "expression": _REFUSED}
    return json.dumps(
        {
            "name": "refusals",
            "filter": {"extension_filter": {"name": "refused", "typed_config": refused}},
            "typed_config": config,
        }
    )
