"""Whether the vendor would take a message, and what is in it to recognise it by."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

from stack.sinks.journal import Delivery, now
from stack.sinks.schemas import problems

ROUTING_KEY = "70c51e00000000000000000000000000"
SIGNING_KEY = "made-up-webhook-signing-key"
_OK = 200
_ACCEPTED = 202
BAD = 400
_UNSIGNED = 401
_ACTIONS = {"trigger": "FIRING", "acknowledge": "ACKNOWLEDGED", "resolve": "RESOLVED"}


@dataclass(frozen=True, slots=True)
class Posted:
    """What was posted: the bytes, and the JSON in them or None."""

    raw: bytes
    headers: dict[str, str]

    @property
    def document(self) -> dict[str, object]:
        """The JSON object, empty when there is none."""
        try:
            found = json.loads(self.raw)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


Judge = Callable[[Posted], Delivery]


def slack(posted: Posted) -> Delivery:
    """Judge as Slack does."""
    body = posted.document
    wrong = problems("slack", body)
    blocks = body.get("blocks")
    blocks = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    headline = str(body.get("text", ""))
    return Delivery(
        channel="slack",
        status=BAD if wrong else _OK,
        is_accepted=not wrong,
        key=str(blocks[0].get("block_id", "")) if blocks else "",
        alert=_alert_of(blocks),
        kind=next((kind for kind in _ACTIONS.values() if f"] {kind}:" in headline), ""),
        problems=wrong,
        body=body,
        time=now(),
    )


def pagerduty(posted: Posted) -> Delivery:
    """Judge as PagerDuty does."""
    body = posted.document
    wrong = problems("pagerduty", body)
    if not wrong and body["routing_key"] != ROUTING_KEY:
        wrong = ["Invalid routing key"]
    return Delivery(
        channel="pagerduty",
        status=BAD if wrong else _ACCEPTED,
        is_accepted=not wrong,
        key=str(body.get("dedup_key", "")),
        alert=str(body.get("dedup_key", "")),
        kind=_ACTIONS.get(str(body.get("event_action")), ""),
        problems=wrong,
        body=body,
        time=now(),
    )


def webhook(posted: Posted) -> Delivery:
    """Judge as a receiver that checks the signature does."""
    body = posted.document
    signed = posted.headers.get("tocsin-timestamp", "").encode() + b"." + posted.raw
    expected = "v1=" + hmac.new(SIGNING_KEY.encode(), signed, hashlib.sha256).hexdigest()
    is_signed = hmac.compare_digest(expected, posted.headers.get("tocsin-signature", ""))
    wrong = problems("webhook", body) if is_signed else ["the signature is not right"]
    alert = body.get("alert")
    return Delivery(
        channel="webhook",
        status=(BAD if is_signed else _UNSIGNED) if wrong else _OK,
        is_accepted=not wrong,
        key=posted.headers.get("idempotency-key", ""),
        alert=str(alert.get("id", "")) if isinstance(alert, dict) else "",
        kind=str(body.get("kind", "")),
        problems=wrong,
        body=body,
        time=now(),
    )


def _alert_of(blocks: list[dict[str, object]]) -> str:
    for block in blocks:
        elements = block.get("elements")
        for element in elements if isinstance(elements, list) else []:
            text = str(element.get("text", "")) if isinstance(element, dict) else ""
            if text.startswith("Alert "):
                return text.removeprefix("Alert ")
    return ""
