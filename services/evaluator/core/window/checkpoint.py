"""From where a partition of `window-partials` is resumed, and its form as metadata of a committed offset."""

import json
from dataclasses import dataclass

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """From where, and with what, a new owner resumes a partition exactly.

    Reading begins at `offset`, the oldest record that an open window needs. Records before `position` were judged
    already; `watermark_ns` says which windows were closed by then. `owner` names who wrote the groups' states.
    """

    offset: int
    position: int
    watermark_ns: int | None
    owner: str = ""


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Encode a checkpoint as the metadata of its committed offset."""
    return json.dumps(
        {
            "v": _VERSION,
            "position": checkpoint.position,
            "watermark": checkpoint.watermark_ns,
            "owner": checkpoint.owner,
        }
    )


def decode_checkpoint(offset: int, metadata: str) -> Checkpoint:
    """Decode the metadata of a committed offset; when it is absent or of another version, judge all records anew."""
    try:
        fields = json.loads(metadata) if metadata else {}
        if fields.get("v") == _VERSION:
            return Checkpoint(
                offset=offset,
                position=int(fields["position"]),
                watermark_ns=fields["watermark"],
                # Former versions wrote no owner.
                owner=str(fields.get("owner", "")),
            )
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return Checkpoint(offset=offset, position=offset, watermark_ns=None)
