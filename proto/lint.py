"""Check the contracts: style, format, that gen/ is fresh, and that nothing was broken since the commit before.

buf reads images rather than its own registry, so no download is needed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import GEN, GOOGLE_RPC, PROTO, ROOT, generate, protoc_run, stale

BUF = Path(sys.executable).parent / "buf"


def buf(*arguments: str) -> bool:
    """Whether buf is content; it prints what it is not content with."""
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0


def committed_before(target: Path) -> bool:
    """Write the descriptor set of the commit that is compared with; False when there is none yet.

    That is the newest commit when the contracts were changed since, and the one before it otherwise.
    """
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", str(GEN / "descriptor.binpb")], cwd=ROOT, check=False
    )
    revision = "HEAD" if changed.returncode == 1 else "HEAD~1"
    shown = subprocess.run(
        ["git", "show", f"{revision}:gen/descriptor.binpb"], cwd=ROOT, check=False, capture_output=True
    )
    target.write_bytes(shown.stdout)
    if shown.returncode != 0:
        sys.stderr.write(f"no contracts at {revision}: what may be broken was not checked\n")
    return shown.returncode == 0


def main() -> None:
    """Run every check, then exit 1 when one failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, before, fresh = folder / "image.binpb", folder / "before.binpb", folder / "gen"
        fresh.mkdir()
        protoc_run("--include_imports", "--include_source_info", f"--descriptor_set_out={image}", *GOOGLE_RPC)
        generate(fresh)
        outdated = stale(fresh)
        if outdated:
            sys.stderr.write(f"gen/ is stale, run `make gen`: {', '.join(map(str, outdated))}\n")
        passed = [
            not outdated,
            buf("lint", str(image)),
            buf("format", "--diff", "--exit-code", str(PROTO)),
            not committed_before(before) or buf("breaking", str(image), "--against", str(before)),
        ]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
