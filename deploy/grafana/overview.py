"""The overview, with the figures that users ask for first, and the trends over weeks."""

from common import BREAKERS, CANARY_TIME, DELIVERY_TIME, EVENTS, FIRING, RULES, rate, share
from panels import Dashboard, Panel, Row, quantiles

SENT = 'notifications_sent_total{status="success"}'
HEALTHY = 'envoy_cluster_membership_healthy{envoy_cluster_name=~"ingest|evaluator|manager|notifier"}'

OVERVIEW = Dashboard(
    uid="tocsin",
    title="Tocsin: overview",
    annotations=(FIRING,),
    rows=(
        Row(
            title="Five figures",
            panels=(
                Panel(
                    title="Alerts a second",
                    description="Transitions that the manager has applied, each once.",
                    queries=[(rate("alerts_processed_total", span="5m"), "alerts")],
                    unit="ops",
                    is_stat=True,
                ),
                Panel(
                    title="Deduplication",
                    description="The share of these, over the time shown, that were repeated firings of open alerts.",
                    queries=[
                        (share("alerts_deduplicated_total", "alerts_processed_total", "$__range"), "deduplicated")
                    ],
                    unit="percentunit",
                    is_stat=True,
                ),
                Panel(
                    title="Delivery success",
                    description="The share of deliveries, over the time shown, that their channel accepted.",
                    queries=[
                        (
                            share(SENT, "notifications_sent_total", "$__range"),
                            "success",
                        )
                    ],
                    unit="percentunit",
                    is_stat=True,
                ),
                BREAKERS,
            ),
        ),
        Row(title="How long it takes", panels=(DELIVERY_TIME, CANARY_TIME)),
        Row(
            title="The flow",
            panels=(
                EVENTS,
                Panel(
                    title="Alerts",
                    description="Transitions a second that the manager has applied, and repeated firings.",
                    queries=[
                        (rate("alerts_processed_total"), "processed"),
                        (rate("alerts_deduplicated_total"), "deduplicated"),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Notifications",
                    description="Deliveries a second, by outcome.",
                    queries=[(rate("notifications_sent_total", by="status"), "{{status}}")],
                    unit="ops",
                ),
            ),
        ),
        Row(
            title="What is behind or wrong",
            panels=(
                Panel(
                    title="Lag",
                    description="Records that were not read yet, by who reads them.",
                    queries=[("sum by (group, topic) (tocsin_kafka_consumer_lag)", "{{group}}: {{topic}}")],
                ),
                Panel(
                    title="Watermark age",
                    description="How far event time is behind the clock.",
                    queries=[("max by (instance) (tocsin_evaluator_watermark_age_seconds)", "{{instance}}")],
                    unit="s",
                ),
                Panel(
                    title="Prometheus rules that fire",
                    description="What Prometheus alerts on; nothing where all is well.",
                    queries=[
                        (
                            'sum by (alertname, severity) (ALERTS{alertname=~"Tocsin.*", alertstate="firing"})',
                            "{{alertname}}",
                        )
                    ],
                ),
            ),
        ),
        Row(
            title="The edge",
            panels=(
                Panel(
                    title="Responses by class",
                    description="Of Envoy, each second.",
                    queries=[
                        (
                            rate("envoy_http_downstream_rq_xx", by="envoy_response_code_class"),
                            "{{envoy_response_code_class}}xx",
                        )
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Healthy instances",
                    description="As Envoy's health checks see them.",
                    queries=[
                        (
                            f"max by (envoy_cluster_name) ({HEALTHY})",
                            "{{envoy_cluster_name}}",
                        )
                    ],
                    is_stat=True,
                ),
            ),
        ),
    ),
)

TRENDS = Dashboard(
    uid="tocsin-trends",
    title="Tocsin: trends",
    since="28d",
    refresh="5m",
    rows=(
        Row(
            title="Each day",
            panels=(
                Panel(
                    title="Events",
                    description="Of the 24 hours before.",
                    queries=[
                        ("sum (increase(tocsin_ingest_events_accepted_total[1d]))", "accepted"),
                        ("sum (increase(late_events_total[1d]))", "late"),
                    ],
                ),
                Panel(
                    title="Alerts fired",
                    description="Of the 24 hours before, by severity.",
                    queries=[
                        (f"sum by (severity) (increase(tocsin_evaluator_rule_fired_total{RULES}[1d]))", "{{severity}}")
                    ],
                ),
                Panel(
                    title="The rules that fire most",
                    description="Of the 24 hours before, the ten with the most alerts.",
                    queries=[
                        (
                            f"topk(10, sum by (rule) (increase(tocsin_evaluator_rule_fired_total{RULES}[1d])))",
                            "{{rule}}",
                        )
                    ],
                ),
            ),
        ),
        Row(
            title="How well",
            panels=(
                Panel(
                    title="Shares",
                    description="Of the 24 hours before: delivery success, and repeated firings among the transitions.",
                    queries=[
                        (
                            share(SENT, "notifications_sent_total", "1d"),
                            "delivery success",
                        ),
                        (share("alerts_deduplicated_total", "alerts_processed_total", "1d"), "deduplicated"),
                    ],
                    unit="percentunit",
                ),
                Panel(
                    title="Time from alert to notification",
                    description="Of the 24 hours before.",
                    queries=quantiles("tocsin_notifier_notification_latency_seconds", span="1d"),
                    unit="s",
                ),
                Panel(
                    title="Longest lag",
                    description="The most records, within 24 hours, that were not read yet.",
                    queries=[
                        ("max by (topic) (max_over_time(tocsin_kafka_consumer_lag[1d]))", "{{topic}}"),
                    ],
                ),
            ),
        ),
        Row(
            title="How much it takes",
            panels=(
                Panel(
                    title="Processor",
                    description="The mean of 24 hours; 1 is one whole core.",
                    queries=[(rate("process_cpu_seconds_total", by="job", span="1d"), "{{job}}")],
                    unit="percentunit",
                ),
                Panel(
                    title="Resident memory",
                    description="The most within 24 hours, of one instance.",
                    queries=[("max by (job) (max_over_time(process_resident_memory_bytes[1d]))", "{{job}}")],
                    unit="bytes",
                ),
                Panel(
                    title="Bytes of an event",
                    description="Of 24 hours: what Kafka keeps of an event, before replicas.",
                    queries=[
                        (
                            share("tocsin_ingest_written_bytes_total", "tocsin_ingest_events_accepted_total", "1d"),
                            "bytes",
                        )
                    ],
                    unit="bytes",
                ),
            ),
        ),
    ),
)
