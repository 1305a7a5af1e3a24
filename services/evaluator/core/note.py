"""The note that stands beside a committed offset of `window-partials`: what is needed to take up a partition there."""

import json

from services.evaluator.core.stage import Checkpoint

_VERSION = 1


def note_of(checkpoint: Checkpoint) -> str:
    """Write the note of a checkpoint."""
    said = {"position": checkpoint.position, "watermark": checkpoint.watermark_ns, "owner": checkpoint.owner}
    return json.dumps({"v": _VERSION, **said})


def checkpoint_of(offset: int, note: str) -> Checkpoint:
    """Read it again; without a note, or with one of another version, everything from there on is judged anew."""
    try:
        said = json.loads(note) if note else {}
        if said.get("v") == _VERSION:
            return Checkpoint(
                offset=offset,
                position=int(said["position"]),
                watermark_ns=said["watermark"],
                # Former versions kept states without a name.
                owner=str(said.get("owner", "")),
            )
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return Checkpoint(offset=offset, position=offset, watermark_ns=None)
