"""Secrets are masked wherever logs, rules and the catalog reach a notification."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace

import pytest

from services.notifier.core.notification import NotificationChange, NotificationContent, NotificationService
from services.notifier.core.redaction import redact_content
from services.redaction.named_texts import NamedText, RedactedTexts
from services.redaction.text_redactor import TextRedactor
from tests.fakes.notifier import NOW, incident_content

KEY = "AKIA0123456789ABCDEF"
REDACT = TextRedactor(["keys", "passwords"], ()).redact
# By these a channel, or a person, knows what belongs together, who did something, and who is told why.
KEPT = {
    *("subject_id", "alert_id", "fingerprint", "rule_id", "id", "trace_id", "tenant", "receivers"),
    *("actor", "assignee", "owner", "reason"),
    # Words of ours.
    *("level", "tier", "kind", "state", "severity"),
}


def full_content() -> NotificationContent:
    """Return a notification with something in each of its fields."""
    return replace(
        incident_content(),
        service=NotificationService(name="s", owner="o", tier="t", description="d", links={"l": "https://a.example/"}),
        changes=(
            NotificationChange(time=NOW, service="s", kind="k", version="v", actor="a", link="https://b.example"),
        ),
        group={"host": "h"},
        labels={"team": "t"},
        actor="ann",
    )


def texts_of(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each field and each text in it."""
    if isinstance(value, str) and type(value) is str:
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from texts_of(getattr(value, field.name), field.name)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_of(each, name)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from texts_of(each, name)


def mark(texts: Sequence[NamedText]) -> RedactedTexts:
    return RedactedTexts(texts=[f"masked {each.text}" for each in texts], value_counts={"keys": len(texts)})


def test_each_text_is_searched_but_for_ids_and_people() -> None:
    content = full_content()
    redacted, counts = redact_content(content, mark)
    found, before = list(texts_of(redacted)), list(texts_of(content))
    assert [name for name, _ in found] == [name for name, _ in before]
    unchanged = {name for (name, text), (_, old) in zip(found, before, strict=True) if text == old and text}
    assert unchanged == KEPT - {name for name in KEPT if not any(text for own, text in before if own == name)}
    # Each has its own text back, and not another's.
    assert all(text in (old, f"masked {old}") for (_, text), (_, old) in zip(found, before, strict=True))
    assert counts["keys"] == sum(text != old for (_, text), (_, old) in zip(found, before, strict=True))


def test_secrets_are_masked_in_samples_labels_and_groups() -> None:
    content = full_content()
    sample = replace(
        content.samples[0], text=f"login with {KEY} failed", attributes={"db.password": "hunter2", "a": "b"}
    )
    content = replace(
        content,
        samples=(sample,),
        labels={"runbook": "https://ann:hunter2@wiki.example/x"},
        group={"attributes.key": KEY},
        resource=f"attributes.key={KEY}",
    )
    redacted, counts = redact_content(content, REDACT)
    assert redacted.samples[0].text == "login with [redacted:keys] failed"
    assert redacted.samples[0].attributes == {"db.password": "[redacted:passwords]", "a": "b"}
    assert redacted.labels == {"runbook": "https://ann:[redacted:passwords]@wiki.example/x"}
    assert redacted.group == {"attributes.key": "[redacted:keys]"}
    assert redacted.resource == "attributes.key=[redacted:keys]"
    assert dict(counts) == {"keys": 3, "passwords": 2}
    assert redact_content(redacted, REDACT) == (redacted, {})


@pytest.mark.parametrize("content", [full_content(), replace(full_content(), incident=None, window=None, service=None)])
def test_a_notification_without_secrets_is_the_same_one(content: NotificationContent) -> None:
    redacted, counts = redact_content(content, REDACT)
    assert redacted is content
    assert counts == {}


def test_what_is_not_there_stays_away() -> None:
    incident = incident_content().incident
    assert incident is not None
    content = replace(full_content(), incident=replace(incident, cause=None), window=None, service=None)
    redacted, _ = redact_content(content, mark)
    assert redacted.incident is not None
    assert (redacted.incident.cause, redacted.window, redacted.service) == (None, None, None)
    assert redact_content(replace(content, incident=None), mark)[0].incident is None
