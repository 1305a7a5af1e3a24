"""One dashboard for each service."""

from common import BREAKERS, CANARY_TIME, EVENTS, FIRING, RULES, lag, of_service, outbox, rate
from panels import Dashboard, Panel, Row, quantile, quantiles

CHANNELS = '{channel=~"$channel"}'
FAILED = 'notifications_sent_total{status="failure", channel=~"$channel"}'

INGEST = Dashboard(
    uid="tocsin-ingest",
    title="Tocsin: ingest",
    rows=(
        Row(
            title="Events",
            panels=(
                EVENTS,
                Panel(
                    title="Refused and changed",
                    description="Refused events by the first wrong field, and values that were adjusted or masked.",
                    queries=[
                        (rate("tocsin_ingest_events_refused_total", by="field"), "refused: {{field}}"),
                        (rate("tocsin_ingest_values_adjusted_total"), "adjusted"),
                        (rate("tocsin_ingest_values_redacted_total"), "masked"),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Bytes written",
                    description="Of records that Kafka has confirmed, a second.",
                    queries=[(rate("tocsin_ingest_written_bytes_total"), "written")],
                    unit="Bps",
                ),
            ),
        ),
        Row(
            title="Backpressure",
            panels=(
                Panel(
                    title="Time until Kafka has a record",
                    description="From publishing a record until Kafka has confirmed it.",
                    queries=quantiles("tocsin_ingest_produce_duration_seconds"),
                    unit="s",
                ),
                Panel(
                    title="In flight",
                    description="Bytes of requests that wait for an answer.",
                    queries=[("sum by (instance) (tocsin_ingest_in_flight_bytes)", "{{instance}}")],
                    unit="bytes",
                ),
                Panel(
                    title="Receiving",
                    description="Requests that are being received.",
                    queries=[("sum by (instance) (tocsin_ingest_receiving)", "{{instance}}")],
                ),
            ),
        ),
        *of_service("ingest"),
    ),
)

EVALUATOR = Dashboard(
    uid="tocsin-evaluator",
    title="Tocsin: evaluator",
    annotations=(FIRING,),
    rows=(
        Row(
            title="Events",
            panels=(
                Panel(
                    title="Events evaluated",
                    description="Events a second that were matched against all rules; late ones came too late.",
                    queries=[(rate("events_evaluated_total"), "evaluated"), (rate("late_events_total"), "late")],
                    unit="ops",
                ),
                lag("evaluator"),
                Panel(
                    title="Watermark age",
                    description="How far event time is behind the clock, by partition.",
                    queries=[("max by (partition) (tocsin_evaluator_watermark_age_seconds)", "{{partition}}")],
                    unit="s",
                ),
            ),
        ),
        Row(
            title="By rule",
            panels=(
                Panel(
                    title="Events matched",
                    description="Events that the filter of each rule selected.",
                    queries=[(rate(f"tocsin_evaluator_rule_events_matched_total{RULES}", by="rule"), "{{rule}}")],
                    unit="ops",
                ),
                Panel(
                    title="Alerts fired",
                    description="Alerts that began to fire within the hour.",
                    queries=[(f"sum by (rule) (increase(tocsin_evaluator_rule_fired_total{RULES}[1h]))", "{{rule}}")],
                ),
                Panel(
                    title="Late events",
                    description="Events that a rule selected after their window was closed; it does not evaluate them.",
                    queries=[(rate(f"tocsin_evaluator_rule_events_late_total{RULES}", by="rule"), "{{rule}}")],
                    unit="ops",
                ),
                Panel(
                    title="Time since the last evaluation",
                    description="Since events were last matched against the rule.",
                    queries=[
                        (
                            f"time() - max by (rule) (tocsin_evaluator_rule_last_evaluation_timestamp_seconds{RULES})",
                            "{{rule}}",
                        )
                    ],
                    unit="s",
                ),
            ),
        ),
        Row(
            title="State",
            panels=(
                Panel(
                    title="Groups",
                    description="Groups with an open window, and those that fire.",
                    queries=[
                        ("sum (tocsin_evaluator_groups_open)", "open"),
                        ("sum (tocsin_evaluator_groups_firing)", "firing"),
                    ],
                ),
                Panel(
                    title="Rules",
                    description="Enabled rules that are evaluated or refused, and those that are set aside.",
                    queries=[
                        ("max by (state) (tocsin_evaluator_rules)", "{{state}}"),
                        ("sum (tocsin_evaluator_rules_set_aside)", "set aside"),
                    ],
                ),
                Panel(
                    title="Time to match a fetch",
                    description="All rules together.",
                    queries=quantiles("tocsin_evaluator_match_duration_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Snapshots and gaps",
                    description="Within the hour: snapshots of open windows by outcome, gaps, blocks begun again.",
                    queries=[
                        ("sum by (outcome) (increase(tocsin_evaluator_snapshots_total[1h]))", "snapshots {{outcome}}"),
                        ("sum (increase(tocsin_evaluator_gaps_total[1h]))", "gaps"),
                        ("sum (increase(tocsin_evaluator_rewinds_total[1h]))", "begun again"),
                    ],
                ),
            ),
        ),
        # It serves none.
        *of_service("evaluator", has_calls=False),
    ),
)

MANAGER = Dashboard(
    uid="tocsin-manager",
    title="Tocsin: manager",
    annotations=(FIRING,),
    rows=(
        Row(
            title="Alerts",
            panels=(
                Panel(
                    title="Transitions",
                    description="Of the evaluator, a second, by what became of them.",
                    queries=[(rate("tocsin_manager_transitions_total", by="reason"), "{{reason}}")],
                    unit="ops",
                ),
                Panel(
                    title="Time to store a transition",
                    description="From the evaluator's decision until it was committed.",
                    queries=quantiles("tocsin_manager_store_latency_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Open alerts and rules",
                    description="As they are stored.",
                    queries=[
                        ("max (tocsin_manager_alerts_open)", "open alerts"),
                        ("max (tocsin_manager_rules_enabled)", "enabled rules"),
                    ],
                ),
            ),
        ),
        Row(
            title="Incidents and people",
            panels=(
                Panel(
                    title="Changes of incidents",
                    description="A second, by reason.",
                    queries=[(rate("tocsin_manager_incident_changes_total", by="reason"), "{{reason}}")],
                    unit="ops",
                ),
                Panel(
                    title="Notifications of incidents",
                    description="A second, by reason.",
                    queries=[(rate("tocsin_manager_incident_notifications_total", by="reason"), "{{reason}}")],
                    unit="ops",
                ),
                Panel(
                    title="Time to acknowledge",
                    description="From the firing of an alert until somebody acknowledged it; over 6 hours.",
                    queries=[
                        (
                            quantile(
                                each,
                                'tocsin_manager_time_to_acknowledge_seconds{severity=~"$severity"}',
                                by="le, severity",
                                span="6h",
                            ),
                            f"p{each * 100:.0f} {{{{severity}}}}",
                        )
                        for each in (0.5, 0.9)
                    ],
                    unit="s",
                ),
            ),
        ),
        Row(
            title="On the way",
            panels=(
                lag("manager"),
                outbox("manager"),
                Panel(
                    title="Response cache",
                    description="Lookups a second, by outcome.",
                    queries=[(rate("tocsin_manager_cache_lookups_total", by="outcome"), "{{outcome}}")],
                    unit="ops",
                ),
                Panel(
                    title="Canaries sent",
                    description="Within the hour, by outcome.",
                    queries=[("sum by (outcome) (increase(tocsin_manager_canaries_total[1h]))", "{{outcome}}")],
                ),
            ),
        ),
        *of_service("manager"),
    ),
)

NOTIFIER = Dashboard(
    uid="tocsin-notifier",
    title="Tocsin: notifier",
    rows=(
        Row(
            title="Deliveries",
            panels=(
                Panel(
                    title="Notifications sent",
                    description="Deliveries a second, by outcome.",
                    queries=[(rate(f"notifications_sent_total{CHANNELS}", by="status"), "{{status}}")],
                    unit="ops",
                ),
                Panel(
                    title="Time from alert to delivery",
                    description="From the change of an alert until a channel accepted the notification.",
                    queries=quantiles(f"tocsin_notifier_notification_latency_seconds{CHANNELS}"),
                    unit="s",
                ),
                Panel(
                    title="Failed deliveries",
                    description="Within the hour, by channel and reason.",
                    queries=[
                        (
                            f"sum by (channel, reason) (increase({FAILED}[1h]))",
                            "{{channel}}: {{reason}}",
                        )
                    ],
                ),
            ),
        ),
        Row(
            title="Channels",
            panels=(
                BREAKERS,
                Panel(
                    title="Waiting deliveries",
                    description="By channel, and whether they have failed and wait for it to recover.",
                    queries=[
                        (
                            f"sum by (channel, state) (tocsin_notifier_queue_depth{CHANNELS})",
                            "{{channel}}: {{state}}",
                        )
                    ],
                ),
                Panel(
                    title="Attempts",
                    description="A second, by channel and reason.",
                    queries=[
                        (
                            rate(f"tocsin_notifier_attempts_total{CHANNELS}", by="channel, reason"),
                            "{{channel}}: {{reason}}",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Nobody reached",
                    description="Within the hour: notifications without a route, and receivers that are not known.",
                    queries=[
                        ("sum (increase(tocsin_notifier_unrouted_total[1h]))", "no route"),
                        ("sum (increase(tocsin_notifier_unknown_receivers_total[1h]))", "unknown receivers"),
                    ],
                ),
            ),
        ),
        Row(title="On the way", panels=(lag("notifier"), outbox("notifier"), CANARY_TIME)),
        *of_service("notifier"),
    ),
)
