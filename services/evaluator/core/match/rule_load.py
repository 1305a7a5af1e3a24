"""What each rule takes of the match stage's time, and which rules take too much: sums that decay.

A rule's own work is what no other rule shares, and its part of what some rules have in common: expressions that no
index answers, terms that are evaluated by themselves, scopes. Everything else (indexes, scans for patterns, buckets,
rows) is shared, and nobody's.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

# A rule's id and revision: an edited rule is another version.
RuleVersion = tuple[str, int]

# The stage is behind when it matches for at least this share of the time.
_BUSY = 0.9
# A rule that takes less of the stage is never over its budget, whatever all rules together take.
_MIN_SHARE = 0.05
# The sums forget with a third of the period: they know what is now, not what was before.
_DECAYS_A_PERIOD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What shares of the match stage's CPU one rule, and all rules together, may take, and for how long more."""

    rule_share: float = 0.5
    rules_share: float = 0.8
    period: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One fetch that was measured rule by rule, and what all fetches took since the one that was measured before."""

    # Seconds: of the wall clock, those of them in which the stage matched, and the CPU that it took.
    elapsed: float
    busy: float
    cpu: float
    # Seconds of CPU of the measured fetch, and of each rule's own work in it.
    measured: float
    rules: Mapping[RuleVersion, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLoad:
    """Seconds that decay: as in Measurement, and for how long there have been measurements."""

    age: float = 0.0
    elapsed: float = 0.0
    busy: float = 0.0
    cpu: float = 0.0
    rules: Mapping[RuleVersion, float] = field(default_factory=dict)

    def add(self, measurement: Measurement, budget: Budget) -> "RuleLoad":
        """Return the load after a measurement; its fetch stands for all since the one before."""
        period = budget.period.total_seconds()
        decay = math.exp(-measurement.elapsed * _DECAYS_A_PERIOD / period)
        scale = measurement.cpu / measurement.measured if measurement.measured > 0 else 0.0
        versions = self.rules.keys() | measurement.rules.keys()
        return RuleLoad(
            age=self.age + measurement.elapsed,
            elapsed=self.elapsed * decay + measurement.elapsed,
            busy=self.busy * decay + measurement.busy,
            cpu=self.cpu * decay + measurement.cpu,
            rules={
                version: self.rules.get(version, 0.0) * decay + measurement.rules.get(version, 0.0) * scale
                for version in versions
            },
        )

    def without(self, versions: Collection[RuleVersion]) -> "RuleLoad":
        """Return the load as if these rules were not evaluated."""
        gone = sum(self.rules.get(version, 0.0) for version in versions)
        return RuleLoad(
            age=self.age,
            elapsed=self.elapsed,
            busy=max(self.busy - gone, 0.0),
            cpu=max(self.cpu - gone, 0.0),
            rules={version: cpu for version, cpu in self.rules.items() if version not in versions},
        )

    @property
    def shares(self) -> Mapping[RuleVersion, float]:
        """The share of the stage's CPU that each rule's own work takes."""
        return {version: cpu / self.cpu for version, cpu in self.rules.items()} if self.cpu > 0 else {}

    def is_behind(self, budget: Budget) -> bool:
        """Whether the stage has been matching nearly all of the time."""
        is_known = self.age * _DECAYS_A_PERIOD >= budget.period.total_seconds()
        return is_known and self.busy >= _BUSY * self.elapsed


def over_budget(shares: Mapping[RuleVersion, float], budget: Budget) -> list[RuleVersion]:
    """Return the rules that take too much, the costliest first: each alone, or those that make up the excess of all."""
    rest = sum(shares.values())
    over: list[RuleVersion] = []
    for version, share in sorted(shares.items(), key=lambda item: (-item[1], item[0])):
        if share > budget.rule_share or (rest > budget.rules_share and share >= _MIN_SHARE):
            over.append(version)
            rest -= share
    return over
