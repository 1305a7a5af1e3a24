"""Run the evaluator: python -m services.evaluator."""

import gc

# On again in `main`: collections in vain are a tenth of the imports' CPU.
gc.disable()

from services.chassis.lifecycle import main  # noqa: E402
from services.evaluator.app import app  # noqa: E402
from services.evaluator.settings import PREFIX, Settings  # noqa: E402

if __name__ == "__main__":
    main("evaluator", Settings, PREFIX, app)
