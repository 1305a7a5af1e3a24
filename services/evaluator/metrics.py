"""The evaluator's instruments, one method for each observation."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis.telemetry import meter
from services.domain.problem_reason import ProblemReason
from services.evaluator.core.records import Transition, TransitionReason
from services.evaluator.core.rules import RuleSet
from services.evaluator.ports import RuleCounts
from services.rule_language.rule import Rule

# Of the stage's CPU: a rule that takes less has no series of its share.
_MIN_SHARE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """The state of one partition of the window stage; without a watermark its age is None."""

    watermark_age: float | None
    open_groups: int
    firing_groups: int
    # By tenant, of all of its rules together, each with its fullest window.
    tenant_groups: Mapping[str, int] = field(default_factory=dict)


class SnapshotOutcome(Enum):
    """What became of a snapshot; the metric label."""

    WRITTEN = "written"
    # It could not be written; the next attempt follows.
    FAILED = "failed"
    # A partition was resumed from it.
    USED = "used"
    # It was gone or damaged: the partition was read from the oldest record that an open window needs.
    IGNORED = "ignored"


def _labels_of(rule: Rule) -> Mapping[str, str]:
    # Different rules have different names.
    return {"rule": rule.name, "severity": rule.severity.name}


class Metrics:
    """Create it once, inside the running service."""

    def __init__(self) -> None:
        instruments = meter(__name__)
        self._events = instruments.create_counter(
            "events_evaluated", description="Events that were matched against all rules."
        )
        self._unreadable = instruments.create_counter(
            "tocsin.evaluator.records.unreadable", description="Records of log-events that could not be decoded."
        )
        self._failed = instruments.create_counter(
            "tocsin.evaluator.rules.failed", description="Fetches on which a rule could not be evaluated."
        )
        self._over_step_limit = instruments.create_counter(
            "tocsin.evaluator.events.given_up",
            description="Events for which an expression would take too many steps; it did not select them.",
        )
        self._match = instruments.create_histogram(
            "tocsin.evaluator.match.duration", unit="s", description="Time to match one fetch."
        )
        self._rows = instruments.create_histogram(
            "tocsin.evaluator.flush.rows",
            description="Changed rows that one flush wrote to window-partials.",
            explicit_bucket_boundaries_advisory=[0, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000],
        )
        self._rewinds = instruments.create_counter(
            "tocsin.evaluator.rewinds", description="Times that the match stage began its blocks again."
        )
        self._late = instruments.create_counter(
            "late_events",
            description="Events that some rule selected after their window was closed, each counted once.",
        )
        self._gaps = instruments.create_counter(
            "tocsin.evaluator.gaps", description="Flushes before which another flush was missing."
        )
        self._transitions = instruments.create_counter(
            "tocsin.evaluator.transitions", description="Transitions written to alerts, by reason."
        )
        self._snapshots = instruments.create_counter(
            "tocsin.evaluator.snapshots",
            description="Snapshots of open windows: written or failed; used or ignored at a restart.",
        )
        # Observed, not set: a partition that was revoked must not be shown here any more.
        self._partitions: Mapping[int, PartitionState] = {}
        self._rules: Mapping[str, int] = {}
        self._rules_revision: int | None = None
        self._by_rule: Mapping[str, RuleCounts] = {}
        # Those of rules that are known; a tenant keeps its count when its rules go.
        self._tenants: Mapping[str, str] = {}
        self._beyond_limit: Counter[str] = Counter()
        self._rule_labels: Mapping[str, Mapping[str, str]] = {}
        self._problems: Mapping[ProblemReason, int] = {}
        self._shares: Mapping[str, float] = {}
        self._create_rule_instruments()
        instruments.create_observable_gauge(
            "tocsin.evaluator.rules",
            [lambda _: [Observation(count, {"state": state}) for state, count in self._rules.items()]],
            description="Enabled rules, by whether they are evaluated or refused (rule_refused in the log says why).",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.rules.revision",
            [lambda _: [] if self._rules_revision is None else [Observation(self._rules_revision)]],
            description="The revision of the rules that are used: a rule of this revision or a former one counts.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.rules.set_aside",
            [lambda _: [Observation(self._problems.get(each, 0), {"reason": each.value}) for each in ProblemReason]],
            description="Enabled rules that are not evaluated, by reason (tocsin rules list says which).",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.watermark.age",
            [self._observe(lambda partition: partition.watermark_age)],
            unit="s",
            description="How far the watermark is behind the wall clock.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.open",
            [self._observe(lambda partition: partition.open_groups)],
            description="Groups with an open window, by partition of window-partials.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.groups.firing",
            [self._observe(lambda partition: partition.firing_groups)],
            description="Groups with an open alert, by partition of window-partials.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.tenant.groups",
            [self._observe_tenant_groups],
            description="Groups of all rules of a tenant, each rule with its fullest window; EVALUATOR_TENANT_GROUPS.",
        )
        instruments.create_observable_counter(
            "tocsin.evaluator.tenant.events.beyond_limit",
            [lambda _: [Observation(events, {"tenant": tenant}) for tenant, events in self._beyond_limit.items()]],
            description="Events of a tenant's groups beyond a limit; they are counted in the groups ~other.",
        )
        for counter in (
            self._events,
            self._unreadable,
            self._failed,
            self._over_step_limit,
            self._rewinds,
            self._late,
            self._gaps,
        ):
            counter.add(0)
        for reason in TransitionReason:
            self._transitions.add(0, {"reason": reason.value})
        for outcome in SnapshotOutcome:
            self._snapshots.add(0, {"outcome": outcome.value})

    def matched(self, seconds: float) -> None:
        """Record the time to match one fetch against all rules."""
        self._match.record(seconds)

    def flushed(self, events: int, rows: int) -> None:
        """Record that Kafka has the rows of one flush, which covers so many new events."""
        self._events.add(events)
        self._rows.record(rows)

    def unreadable(self) -> None:
        """Count a record whose dead letter was published."""
        self._unreadable.add(1)

    def rules_supervised(self, problems: Iterable[ProblemReason], shares: Mapping[str, float]) -> None:
        """Show why how many rules are not evaluated, and by id what share of the match stage each of the others takes.

        Of rules that take next to nothing there is no share.
        """
        self._problems = Counter(problems)
        self._shares = shares

    def rule_failed(self) -> None:
        """Count a fetch on which a rule could not be evaluated."""
        self._failed.add(1)

    def over_step_limit(self, events: int) -> None:
        """Count events for which an expression would take too many steps."""
        self._over_step_limit.add(events)

    def rewound(self) -> None:
        """Count that the match stage began its blocks again."""
        self._rewinds.add(1)

    def late(self, events: int, by_rule: Mapping[str, int]) -> None:
        """Count events that came after their window was closed: each once, and those of each rule by its id."""
        self._late.add(events)
        for rule_id, late in by_rule.items():
            if rule_id in self._by_rule:
                self._by_rule[rule_id].late += late

    def beyond_limit(self, by_rule: Mapping[str, int]) -> None:
        """Count the events of each rule, by its id, that were counted in `~other`: their group is beyond the limit."""
        for rule_id, events in by_rule.items():
            if rule_id in self._by_rule:
                self._by_rule[rule_id].beyond_limit += events
                self._beyond_limit[self._tenants[rule_id]] += events

    def gap(self) -> None:
        """Count a flush before which another was missing."""
        self._gaps.add(1)

    def transition(self, transition: Transition) -> None:
        """Count a transition that Kafka has."""
        self._transitions.add(1, {"reason": transition.reason.value})
        if transition.reason is TransitionReason.CONDITION_MET and transition.rule_id in self._by_rule:
            self._by_rule[transition.rule_id].fired += 1

    def snapshot(self, outcome: SnapshotOutcome) -> None:
        """Count what became of a snapshot."""
        self._snapshots.add(1, {"outcome": outcome.value})

    def partitions(self, states: Mapping[int, PartitionState]) -> None:
        """Show the partitions of the window stage that are assigned to this instance, and no others."""
        self._partitions = states

    def rules(self, rules: RuleSet) -> None:
        """Show how many rules are evaluated and how many cannot be; count by rule for those, and for no others."""
        self._rules = {"evaluated": len(rules.rules), "refused": len(rules.refused)}
        self._rules_revision = rules.revision
        self._by_rule = {rule_id: self._by_rule.get(rule_id, RuleCounts()) for rule_id in rules.rules}
        self._tenants = {rule_id: compiled.rule.tenant for rule_id, compiled in rules.rules.items()}
        for tenant in rules.tenants:
            self._beyond_limit[tenant] += 0
        self._rule_labels = {rule_id: _labels_of(compiled.rule) for rule_id, compiled in rules.rules.items()}

    def rule_counts(self) -> Mapping[str, RuleCounts]:
        """Return what was counted of each rule until now."""
        return {rule_id: replace(counts) for rule_id, counts in self._by_rule.items()}

    def rules_evaluated(self, selected: Mapping[str, int], now: datetime) -> None:
        """Count, by the id of each rule that was evaluated until now, the events that its filter selected."""
        for rule_id, events in selected.items():
            if rule_id in self._by_rule:
                self._by_rule[rule_id].matched += events
                self._by_rule[rule_id].evaluate_time = now

    def _create_rule_instruments(self) -> None:
        # Observed like the partitions: what belongs to a rule goes with it, so there are as many series as rules.
        instruments = meter(__name__)
        instruments.create_observable_counter(
            "tocsin.evaluator.rule.events.matched",
            [self._observe_rules(lambda counts: counts.matched)],
            description="Events that the filter of a rule selected.",
        )
        instruments.create_observable_counter(
            "tocsin.evaluator.rule.events.late",
            [self._observe_rules(lambda counts: counts.late)],
            description="Events that a rule selected after their window was closed; it does not judge them.",
        )
        instruments.create_observable_counter(
            "tocsin.evaluator.rule.events.beyond_limit",
            [self._observe_rules(lambda counts: counts.beyond_limit)],
            description="Events of groups beyond EVALUATOR_MAX_GROUPS; they are counted in the group ~other.",
        )
        instruments.create_observable_counter(
            "tocsin.evaluator.rule.fired",
            [self._observe_rules(lambda counts: counts.fired)],
            description="Alerts of a rule that began to fire.",
        )
        instruments.create_observable_gauge(
            "tocsin.evaluator.rule.last_evaluation.timestamp",
            [self._observe_rules(lambda counts: counts.evaluate_time.timestamp() if counts.evaluate_time else None)],
            unit="s",
            description="When events were last matched against a rule.",
        )

        instruments.create_observable_gauge(
            "tocsin.evaluator.rule.cpu.share",
            [self._observe_shares],
            description="Share of the match stage's CPU that a rule's own expressions take, from 0 to 1.",
        )

    def _observe_tenant_groups(self, _: CallbackOptions) -> Iterable[Observation]:
        groups: Counter[str] = Counter()
        for state in self._partitions.values():
            groups.update(state.tenant_groups)
        return [Observation(count, {"tenant": tenant}) for tenant, count in groups.items()]

    def _observe_shares(self, _: CallbackOptions) -> Iterable[Observation]:
        for rule_id, share in self._shares.items():
            if share >= _MIN_SHARE and rule_id in self._rule_labels:
                yield Observation(share, self._rule_labels[rule_id])

    def _observe_rules(
        self, value_of: Callable[[RuleCounts], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for rule_id, counts in self._by_rule.items():
                value = value_of(counts)
                if value is not None:
                    yield Observation(value, self._rule_labels[rule_id])

        return observe

    def _observe(
        self, value_of: Callable[[PartitionState], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for partition, state in self._partitions.items():
                value = value_of(state)
                if value is not None:
                    yield Observation(value, {"partition": partition})

        return observe
