"""Whether the vendor would accept a message, and which alert and which duplicate key it has."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

from stack.sink_addresses import ROUTING_KEY, SIGNING_KEY
from stack.sinks.journal import SinkDelivery, utc_now
from stack.sinks.schemas import schema_problems

_OK = 200
_ACCEPTED = 202
BAD_REQUEST = 400
_UNSIGNED = 401
_ACTIONS = {"trigger": "FIRING", "acknowledge": "ACKNOWLEDGED", "resolve": "RESOLVED"}
_KINDS = ("FIRING", "ACKNOWLEDGED", "RESOLVED", "UPDATED")


@dataclass(frozen=True, slots=True)
class SinkRequest:
    """What was request."""

    raw: bytes
    headers: dict[str, str]

    @property
    def document(self) -> dict[str, object]:
        """The JSON object in the body, empty when there is none."""
        try:
            document = json.loads(self.raw)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


VendorCheck = Callable[[SinkRequest], SinkDelivery]


def check_slack(request: SinkRequest) -> SinkDelivery:
    """Check a message as Slack does."""
    body = request.document
    problems = schema_problems("slack", body)
    blocks = body.get("blocks")
    blocks = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    headline = str(body.get("text", ""))
    return SinkDelivery(
        channel="slack",
        status=BAD_REQUEST if problems else _OK,
        is_accepted=not problems,
        key=str(blocks[0].get("block_id", "")) if blocks else "",
        alert=_footer(blocks, "Alert "),
        incident=_footer(blocks, "Incident "),
        kind=_kind_of(headline),
        problems=problems,
        body=body,
        time=utc_now(),
    )


def check_pagerduty(request: SinkRequest) -> SinkDelivery:
    """Check an event as PagerDuty does."""
    body = request.document
    payload = body.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    summary, known = str(payload.get("summary", "")), payload.get("custom_details")
    details = known if isinstance(known, dict) else {}
    problems = schema_problems("pagerduty", body)
    if not problems and body["routing_key"] != ROUTING_KEY:
        problems = ["Invalid routing key"]
    return SinkDelivery(
        channel="pagerduty",
        status=BAD_REQUEST if problems else _ACCEPTED,
        is_accepted=not problems,
        key=str(body.get("dedup_key", "")),
        alert=str(details.get("alert_id", "")),
        incident=str(details.get("incident_id", "")),
        kind=_kind_of(summary) or _ACTIONS.get(str(body.get("event_action")), ""),
        problems=problems,
        body=body,
        time=utc_now(),
    )


def check_webhook(request: SinkRequest) -> SinkDelivery:
    """Check a request as a receiver that verifies the signature does."""
    body = request.document
    signed = request.headers.get("tocsin-timestamp", "").encode() + b"." + request.raw
    expected = "v1=" + hmac.new(SIGNING_KEY.encode(), signed, hashlib.sha256).hexdigest()
    is_signed = hmac.compare_digest(expected, request.headers.get("tocsin-signature", ""))
    problems = schema_problems("webhook", body) if is_signed else ["the signature is not right"]
    alert, incident = body.get("alert"), body.get("incident")
    return SinkDelivery(
        channel="webhook",
        status=(BAD_REQUEST if is_signed else _UNSIGNED) if problems else _OK,
        is_accepted=not problems,
        key=request.headers.get("idempotency-key", ""),
        alert=str(alert.get("id", "")) if isinstance(alert, dict) else "",
        kind=str(body.get("kind", "")),
        incident=str(incident.get("id", "")) if isinstance(incident, dict) else "",
        problems=problems,
        body=body,
        time=utc_now(),
    )


def _kind_of(headline: str) -> str:
    return next((kind for kind in _KINDS if f"] {kind}:" in headline), "")


def _footer(blocks: list[dict[str, object]], name: str) -> str:
    # The last ones are written by Tocsin alone.
    for block in reversed(blocks):
        elements = block.get("elements")
        for element in elements if isinstance(elements, list) else []:
            text = str(element.get("text", "")) if isinstance(element, dict) else ""
            if text.startswith(name):
                return text.removeprefix(name)
    return ""
