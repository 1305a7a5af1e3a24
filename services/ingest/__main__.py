"""Run ingest: `python -m services.ingest`."""

import gc

# On again in `main`: collections in vain are a tenth of the imports' CPU.
gc.disable()

from services.chassis.lifecycle import main  # noqa: E402
from services.ingest.app import app  # noqa: E402
from services.ingest.settings import PREFIX, Settings  # noqa: E402

if __name__ == "__main__":
    main("ingest", Settings, PREFIX, app)
