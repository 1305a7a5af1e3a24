"""The vendors' public documentation of their messages, as JSON schemas.

Slack: the references of incoming webhooks and of the blocks header, section and context, with their limits.
PagerDuty: the published OpenAPI description of Events API v2, the length of its keys, the summary's limit.
Names that the documentation does not have are refused here, so that a spelling mistake is noticed.
"""

from collections.abc import Sequence

from jsonschema import Draft202012Validator

JsonSchema = dict[str, object]


def _plain(max_length: int) -> JsonSchema:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {
            "type": {"const": "plain_text"},
            "text": {"type": "string", "minLength": 1, "maxLength": max_length},
            "emoji": {"type": "boolean"},
        },
    }


def _markdown(max_length: int) -> JsonSchema:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {
            "type": {"const": "mrkdwn"},
            "text": {"type": "string", "minLength": 1, "maxLength": max_length},
            "verbatim": {"type": "boolean"},
        },
    }


def _text(max_length: int) -> JsonSchema:
    return {"oneOf": [_plain(max_length), _markdown(max_length)]}


def _block(kind: str, required: Sequence[str], **properties: JsonSchema) -> JsonSchema:
    return {
        "type": "object",
        "required": ["type", *required],
        "additionalProperties": False,
        "properties": {"type": {"const": kind}, "block_id": {"type": "string", "maxLength": 255}, **properties},
    }


_SECTION = _block(
    "section",
    [],
    text=_text(3000),
    fields={"type": "array", "minItems": 1, "maxItems": 10, "items": _text(2000)},
) | {"anyOf": [{"required": ["text"]}, {"required": ["fields"]}]}

SLACK: JsonSchema = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["text"]}, {"required": ["blocks"]}],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40000},
        "mrkdwn": {"type": "boolean"},
        "unfurl_links": {"type": "boolean"},
        "unfurl_media": {"type": "boolean"},
        "thread_ts": {"type": "string"},
        "blocks": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "oneOf": [
                    _block("header", ["text"], text=_plain(150)),
                    _SECTION,
                    _block("divider", []),
                    _block(
                        "context",
                        ["elements"],
                        elements={"type": "array", "minItems": 1, "maxItems": 10, "items": _text(3000)},
                    ),
                ]
            },
        },
    },
}

_STRING: JsonSchema = {"type": "string"}
_PAYLOAD: JsonSchema = {
    "type": "object",
    "required": ["summary", "severity", "source"],
    "additionalProperties": False,
    "properties": {
        "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
        "source": {"type": "string", "minLength": 1},
        "severity": {"enum": ["critical", "warning", "error", "info"]},
        "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$"},
        "component": _STRING,
        "group": _STRING,
        "class": _STRING,
        "custom_details": {"type": "object"},
    },
}

PAGERDUTY: JsonSchema = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "payload": _PAYLOAD,
        "client": _STRING,
        "client_url": _STRING,
        "links": {"type": "array", "items": {"type": "object", "required": ["href"]}},
        "images": {"type": "array", "items": {"type": "object", "required": ["src"]}},
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"]},
}

WEBHOOK: JsonSchema = {
    "type": "object",
    "required": ["version", "deliveryId", "notificationId", "kind", "alert"],
    "properties": {
        "version": {"const": 1},
        "kind": {"enum": ["FIRING", "ACKNOWLEDGED", "RESOLVED", "UPDATED"]},
        "alert": {"type": "object", "required": ["id", "severity", "ruleName", "resource", "fireTime", "samples"]},
    },
}

_VALIDATORS = {
    "slack": Draft202012Validator(SLACK),
    "pagerduty": Draft202012Validator(PAGERDUTY),
    "webhook": Draft202012Validator(WEBHOOK),
}


def schema_problems(channel: str, body: object) -> list[str]:
    """Return what is wrong with a message, one string for each place."""
    errors = _VALIDATORS[channel].iter_errors(body)
    return sorted(f"{error.json_path}: {error.message[:200]}" for error in errors)
