"""The topics through which the services meet, and the consumer groups that read them.

Names are logical: the settings' topic prefix goes in front of both.
"""

from typing import Final

LOG_EVENTS: Final = "log-events"
LOG_EVENTS_DEAD_LETTER: Final = "log-events-dead-letter"
WINDOW_PARTIALS: Final = "window-partials"
WINDOW_STATE: Final = "window-state"
WINDOW_SNAPSHOTS: Final = "window-snapshots"
ALERTS: Final = "alerts"
NOTIFICATIONS: Final = "notifications"
NOTIFICATION_RESULTS: Final = "notification-results"
AUDIT_LOG: Final = "audit-log"

# The evaluator's, of `log-events` and of `window-partials`.
MATCH_GROUP: Final = "alert-rule-engine-group"
WINDOW_GROUP: Final = "alert-rule-engine-window-group"
# The manager's, of `alerts`, of `notification-results` and of `audit-log`.
TRANSITION_GROUP: Final = "alert-manager-group"
RESULT_GROUP: Final = "alert-manager-results-group"
AUDIT_GROUP: Final = "alert-manager-audit-group"
# The notifier's, of `notifications`.
NOTIFICATION_GROUP: Final = "notification-service-group"
