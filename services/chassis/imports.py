"""Import a service's modules without collecting garbage meanwhile; imports nothing slow itself."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What libraries import if it is there: structlog to show errors in colours, where services write JSON, and
# OpenTelemetry to describe the process in a way that nothing asks for.
_UNUSED = ("rich", "psutil")


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Turn Python's garbage collection off while modules are imported, and exclude what they made from later ones.

    Modules stay as long as the process: collections in vain are a tenth of the imports' CPU. So are libraries that
    nothing uses, which are not found meanwhile.
    """
    modules: dict[str, Any] = sys.modules
    gc.disable()
    hidden = [name for name in _UNUSED if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
        gc.freeze()
        gc.enable()
