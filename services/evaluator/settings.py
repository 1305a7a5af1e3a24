"""The evaluator's settings."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.chassis.settings import KafkaSettings, ProcessSettings, part, setting
from services.domain.tenants import TenantLimits

PREFIX = "EVALUATOR_"


def _tenant_limits(text: str) -> None:
    TenantLimits.parse(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read once, by __main__."""

    process: ProcessSettings = part(listen="127.0.0.1:50052", admin_listen="127.0.0.1:9102")
    kafka: KafkaSettings = part()
    manager_target: str = setting("Address of AlertRuleService, host:port.", default="127.0.0.1:10000")
    cache_dir: Path = setting("Folder for the copy of the rules with which the next start begins.")
    fetch_records: int = setting("Maximum number of records of log-events that are matched at once.", default=48)
    flush: timedelta = setting(
        "How often the match stage sends changed rows to the window stage; more often while it has little to do.",
        default=timedelta(milliseconds=100),
    )
    commit: timedelta = setting("How often the window stage commits.", default=timedelta(seconds=1))
    max_groups: int = setting(
        "Maximum number of groups of a rule in one window; further ones are counted as one group named ~other.",
        default=100_000,
    )
    tenant_groups: str = setting(
        "How many groups all rules of each tenant may have together, each rule by its fullest window, and after a comma"
        " others for tenants by name: 50000,acme=200000; 0: as many as its rules may have. Further ones are counted as"
        " one group of their rule named ~other.",
        default="0",
        check=_tenant_limits,
    )
    idle: timedelta = setting(
        "After this time without a record a partition of log-events does not hold the watermark back.",
        default=timedelta(seconds=10),
    )
    rule_cpu_share: float = setting(
        "Largest share of the match stage's CPU, from 0 to 1, that one rule's own expressions may take for"
        " RULE_BUDGET_PERIOD while the stage cannot keep up; then the rule is set aside.",
        default=0.5,
    )
    rules_cpu_share: float = setting(
        "The same for all rules together; the costliest are set aside, and none that takes less than 0.05.",
        default=0.8,
    )
    rule_budget_period: timedelta = setting(
        "How long a budget must be exceeded before a rule is set aside.", default=timedelta(seconds=30)
    )

    trace_sampling: int = setting(
        "Of so many traces one is sampled, to learn which services depend on each other; 0 samples none.", default=64
    )

    def __post_init__(self) -> None:
        if self.fetch_records < 1:
            raise ValueError(f"fetch_records must be at least 1, got {self.fetch_records}")
        if self.trace_sampling < 0:
            raise ValueError(f"trace_sampling must be at least 0, got {self.trace_sampling}")
        if self.max_groups < 1:
            raise ValueError(f"max_groups must be at least 1, got {self.max_groups}")
        if min(self.flush, self.commit, self.idle, self.rule_budget_period) <= timedelta():
            raise ValueError("flush, commit, idle and rule_budget_period must be longer than 0")
        if not (0 < self.rule_cpu_share <= 1 and 0 < self.rules_cpu_share <= 1):
            raise ValueError("rule_cpu_share and rules_cpu_share must be greater than 0 and at most 1")
