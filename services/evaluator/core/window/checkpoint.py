"""From where a partition of `window-partials` is resumed, and its form as metadata of a committed offset."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """From where, and with what, a partition can be taken up again exactly.

    Reading begins at `offset`, the oldest record that an open window needs. Records before `position` were judged
    already; `watermark_ns` says which windows were closed by then. `owner` names who has kept the groups' states.
    """

    offset: int
    position: int
    watermark_ns: int | None
    owner: str = ""


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
