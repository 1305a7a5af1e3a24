"""Run the notifier: `python -m services.notifier`."""

from services.chassis.lifecycle import main
from services.notifier.app import app
from services.notifier.settings import PREFIX, Settings

if __name__ == "__main__":
    main("notifier", Settings, PREFIX, app)
