"""Write what the image is made of as a bill of materials: CycloneDX 1.6, in JSON.

`python deploy/sbom.py` prints it. The packages are those of deploy/requirements.lock, with the hashes that the image's
build checks; licences are those that the packages installed here name. The base image's own packages are not in it.
"""

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def document(lock: str, project: dict[str, Any]) -> dict[str, Any]:
    """Return the bill of materials of a lock file."""
    components = [component(block) for block in re.split(r"\n(?=\S)", lock.strip())]
    application = {
        "type": "application",
        "bom-ref": "tocsin",
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": application},
        "components": components,
        "dependencies": [{"ref": "tocsin", "dependsOn": [each["bom-ref"] for each in components]}],
    }


def component(block: str) -> dict[str, Any]:
    """Return a package of the lock: each of its files has a hash, of which the build accepts one."""
    found = _REQUIREMENT.match(block)
    if found is None:
        raise ValueError(f"no requirement: {block.splitlines()[0]}")
    name, version = re.sub(r"[-_.]+", "-", found[1]).lower(), found[2]
    purl = f"pkg:pypi/{name}@{version}"
    hashes = [{"name": "tocsin:accepted-sha256", "value": each} for each in _HASH.findall(block)]
    licences = [{"license": {"name": each}} for each in _licences(name)]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **({"licenses": licences} if licences else {}),
        "properties": hashes,
    }


def _licences(name: str) -> list[str]:
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return []
    named = found.get("License-Expression") or found.get("License") or ""
    classifiers = [one.split(" :: ")[-1] for one in found.get_all("Classifier") or [] if one.startswith("License ::")]
    # Some packages give the whole text of their licence.
    return [named] if named and "\n" not in named else classifiers[:1]


if __name__ == "__main__":
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sys.stdout.write(json.dumps(document(lock, project), indent=2) + "\n")
