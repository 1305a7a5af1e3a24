"""Run the manager: `python -m services.manager`."""

from services.chassis.imports import uncollected_imports

with uncollected_imports():
    from services.chassis.lifecycle import main
    from services.manager.app import app
    from services.manager.settings import PREFIX, Settings

if __name__ == "__main__":
    main("manager", Settings, PREFIX, app)
