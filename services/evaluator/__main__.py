"""Run the evaluator: python -m services.evaluator."""

from services.chassis.imports import uncollected_imports

with uncollected_imports():
    from services.chassis.lifecycle import main
    from services.evaluator.app import app
    from services.evaluator.settings import PREFIX, Settings

if __name__ == "__main__":
    main("evaluator", Settings, PREFIX, app)
