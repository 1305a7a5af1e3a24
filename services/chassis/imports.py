"""Import a service's modules without collecting garbage meanwhile; imports nothing slow itself."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# structlog imports it to show errors in colours, if it is there; services write JSON.
_UNUSED = "rich"


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Turn Python's garbage collection off while modules are imported, and exclude what they made from later ones.

    Modules stay as long as the process: collections in vain are a tenth of the imports' CPU. So is a library that
    nothing uses, which is not found meanwhile.
    """
    modules: dict[str, Any] = sys.modules
    gc.disable()
    modules.setdefault(_UNUSED, None)
    try:
        yield
    finally:
        if modules[_UNUSED] is None:
            del modules[_UNUSED]
        gc.freeze()
        gc.enable()
