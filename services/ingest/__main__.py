"""Run ingest: `python -m services.ingest`."""

from services.chassis.imports import uncollected_imports

with uncollected_imports():
    from services.chassis.lifecycle import main
    from services.ingest.app import app
    from services.ingest.settings import PREFIX, Settings

if __name__ == "__main__":
    main("ingest", Settings, PREFIX, app)
