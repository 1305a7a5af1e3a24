"""Write gen/ from proto/: typed Python stubs, the descriptor set that Envoy and the breaking check read, and OpenAPI.

`python proto/generate.py` writes; with `--check` it compares instead and exits 1 when gen/ is stale.
"""

import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import status_pb2
from openapi import openapi_document

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GEN = ROOT / "gen"
OPENAPI = "openapi.json"
# protoc calls its plugins by name: those of this interpreter's environment.
_TYPED = ("mypy", "mypy_grpc")
PLUGINS = [f"--plugin=protoc-gen-{name}={Path(sys.executable).parent}/protoc-gen-{name}" for name in _TYPED]
# Rich errors come out of Envoy empty unless their messages are in the set as well.
GOOGLE_RPC = ("google/rpc/error_details.proto", "google/rpc/status.proto")


def sources() -> list[str]:
    """Every .proto file of ours, relative to proto/, in a fixed order."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def include_paths() -> list[str]:
    """Where protoc finds our files, google.api and google.rpc, and google.protobuf."""
    google_api = Path(status_pb2.__file__).parents[2]
    google_protobuf = Path(grpc_tools.__file__).parent / "_proto"
    return [f"-I{path}" for path in (PROTO, google_api, google_protobuf)]


def protoc_run(*arguments: str) -> None:
    """Run protoc over our files; ends the program with its messages when it fails."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *include_paths(), *PLUGINS, *arguments, *sources()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


def generate(target: Path) -> None:
    """Write the stubs, with a package marker in every folder, and descriptor.binpb below `target`."""
    protoc_run(
        f"--python_out={target}",
        f"--mypy_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out=async_only:{target}",
    )
    protoc_run("--include_imports", f"--descriptor_set_out={target / 'descriptor.binpb'}", *GOOGLE_RPC)
    _write_openapi(target)
    for folder in [target / "tocsin", *(path for path in (target / "tocsin").rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text('"""Generated from proto/; see proto/generate.py."""\n')
    (target / "tocsin" / "py.typed").touch()


def _write_openapi(target: Path) -> None:
    described = target / "described.binpb"
    protoc_run("--include_imports", "--include_source_info", f"--descriptor_set_out={described}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    document = openapi_document(FileDescriptorSet.FromString(described.read_bytes()), version)
    described.unlink()
    (target / OPENAPI).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def files_below(folder: Path) -> set[Path]:
    """Return the generated files below a folder, relative to it."""
    found = {
        path.relative_to(folder) for path in (folder / "tocsin").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    return found | {Path("descriptor.binpb"), Path(OPENAPI)}


def stale(fresh: Path) -> list[Path]:
    """Return the files of gen/ that are missing, obsolete or different from newly generated ones."""
    wanted, present = files_below(fresh), files_below(GEN)
    different = {
        path
        for path in wanted & present
        if not ((GEN / path).is_file() and filecmp.cmp(fresh / path, GEN / path, shallow=False))
    }
    return sorted((wanted ^ present) | different)


def main() -> None:
    """Generate, or compare with what is committed."""
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        outdated = stale(fresh)
        if "--check" in sys.argv:
            if outdated:
                sys.exit("gen/ is stale, run `make gen`: " + ", ".join(map(str, outdated)))
            return
        shutil.rmtree(GEN / "tocsin", ignore_errors=True)
        shutil.copytree(fresh, GEN, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
