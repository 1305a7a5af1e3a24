"""Run the manager: `python -m services.manager`."""

import gc

# On again in `main`: collections in vain are a tenth of the imports' CPU.
gc.disable()

from services.chassis.lifecycle import main  # noqa: E402
from services.manager.app import app  # noqa: E402
from services.manager.settings import PREFIX, Settings  # noqa: E402

if __name__ == "__main__":
    main("manager", Settings, PREFIX, app)
