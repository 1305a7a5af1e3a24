"""Values and fakes for tests of the notifier."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from services.domain.severity import Severity
from services.notifier.core.answer import Accepted, Answer
from services.notifier.core.message import Kind, Message, Sample, Window
from services.notifier.ports import Ending

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPACE = UUID("6b1c1c5e-0c53-4a7e-8a37-7f0b5a1d2c3e")
EVIL = (
    "boom =?utf-8?q?=0d=0aReply-To:_x@attacker.example?= <!channel> <https://evil.example|click> & ```\r\n"
    "Bcc: everyone@example.com\r\n\x1b[31m"
)


def message(
    *,
    kind: Kind = Kind.FIRING,
    severity: Severity = Severity.CRITICAL,
    alert: str = "2f1b7a86-6d36-4a34-9d5f-0a3f6c1f7d10",
    text: str = "Database connection failed",
    rule: str = "High Error Rate",
    resource: str = "payment-service",
) -> Message:
    """A notification as the manager sends it."""
    return Message(
        notification_id=uuid5(SPACE, f"{alert} {kind.name}"),
        alert_id=alert,
        fingerprint="a" * 32,
        kind=kind,
        severity=severity,
        rule_id="rule-1",
        rule=rule,
        description="More than 100 errors in five minutes.",
        resource=resource,
        fire_time=NOW,
        change_time=NOW + timedelta(minutes=kind - 1),
        actor="" if kind is Kind.FIRING else "ada",
        labels={"team": "payments"},
        window=Window(
            start=NOW - timedelta(minutes=5),
            end=NOW,
            count=101,
            total=250,
            condition="count > threshold",
            threshold=100,
        ),
        samples=(
            Sample(
                time=NOW, service=resource, level="ERROR", text=text, host="node-1", trace_id="4bf92f3577b34da6" * 2
            ),
        ),
    )


class FakeChannel:
    """Answers as told and remembers what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = Accepted()
        self.answers: list[Answer] = []
        self.error: Exception | None = None
        self.sent: list[tuple[Message, UUID]] = []

    async def send(self, message: Message, delivery: UUID) -> Answer:
        self.sent.append((message, delivery))
        if self.error is not None:
            raise self.error
        return self.answers.pop(0) if self.answers else self.answer


class FakeOutcomes:
    """Remembers endings; fails as told before that."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.failures: list[Exception] = []
        self.woken: frozenset[str] = frozenset()

    async def record(self, ending: Ending, *, now: datetime) -> frozenset[str]:
        assert now.tzinfo is not None
        if self.failures:
            raise self.failures.pop()
        self.endings.append(ending)
        return self.woken
