"""Queries and panels that several dashboards have."""

from panels import BREAKER_STATES, Panel, Row, annotation, quantile, quantiles

RATE = "$__rate_interval"
RULES = '{rule=~"$rule", severity=~"$severity"}'
FIRING = annotation(
    "Alerts that fire",
    "sum by (rule, severity) (changes(tocsin_evaluator_rule_fired_total[15s])) > 0",
    "{{rule}} fires",
)


def rate(metric: str, by: str = "", span: str = RATE) -> str:
    """Return the query for how often something happens in a second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[{span}]))"


def share(part: str, whole: str, span: str) -> str:
    """Return the query for a share of what happened within a span; it has no value where nothing happened."""
    return f"sum (increase({part}[{span}])) / (sum (increase({whole}[{span}])) > 0)"


def of_service(job: str, *, has_calls: bool = True) -> tuple[Row, Row]:
    """Return what every service has: calls, Kafka, background work, and its process."""
    own = f'{{job="{job}"}}'
    calls = Panel(
        title="Time of an rpc, p99",
        description="By method, from its arrival to the end of its answer.",
        queries=[(quantile(0.99, f"tocsin_rpc_server_duration_seconds{own}", by="le, method"), "{{method}}")],
        unit="s",
    )
    failures = Panel(
        title="Background work that fails",
        description="Failed turns a second by loop and reason, which are tried again; nothing where none has failed.",
        queries=[(rate(f"tocsin_loop_failures_total{own}", by="loop, reason"), "{{loop}}: {{reason}}")],
        unit="ops",
    )
    waiting = Panel(
        title="Bytes waiting for Kafka",
        description="What Kafka has not confirmed; at 64 MiB calls are refused.",
        queries=[(f"sum by (instance) (tocsin_kafka_producer_waiting_bytes{own})", "{{instance}}")],
        unit="bytes",
    )
    processor = Panel(
        title="Processor",
        description="1 is one whole core.",
        queries=[(rate(f"process_cpu_seconds_total{own}", by="instance"), "{{instance}}")],
        unit="percentunit",
    )
    memory = Panel(
        title="Resident memory",
        description="By instance.",
        queries=[(f"sum by (instance) (process_resident_memory_bytes{own})", "{{instance}}")],
        unit="bytes",
    )
    return (
        Row(title="Calls and Kafka", panels=(*([calls] if has_calls else []), waiting, failures)),
        Row(title="Processes", panels=(processor, memory)),
    )


def lag(job: str) -> Panel:
    """Return how many records a service has not read yet."""
    return Panel(
        title="Lag",
        description="Records that were not read yet, by topic.",
        queries=[(f'sum by (topic) (tocsin_kafka_consumer_lag{{job="{job}"}})', "{{topic}}")],
    )


def outbox(job: str) -> Panel:
    """Return how many records wait to be published."""
    return Panel(
        title="Outbox",
        description="Records that are committed and not published yet.",
        queries=[(f'sum (tocsin_outbox_waiting{{job="{job}"}})', "waiting")],
    )


DELIVERY_TIME = Panel(
    title="Time from alert to notification",
    description="From the change of an alert until a channel accepted the notification.",
    queries=quantiles("tocsin_notifier_notification_latency_seconds"),
    unit="s",
)
CANARY_TIME = Panel(
    title="Time of a canary",
    description="From the sending of an event by the manager to the notifier; nothing where there are no canaries.",
    queries=quantiles("tocsin_notifier_canary_latency_seconds"),
    unit="s",
)
BREAKERS = Panel(
    title="Breakers",
    description="The state of each channel's circuit breaker.",
    queries=[("max by (channel) (tocsin_notifier_breaker_state)", "{{channel}}")],
    is_stat=True,
    states=BREAKER_STATES,
)
EVENTS = Panel(
    title="Events",
    description="Events a second: confirmed by Kafka, refused, and matched against all rules.",
    queries=[
        (rate("tocsin_ingest_events_accepted_total"), "accepted"),
        (rate("tocsin_ingest_events_refused_total"), "refused"),
        (rate("events_evaluated_total"), "evaluated"),
    ],
    unit="ops",
)
