"""The channels that a routes file may name."""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings:
    """An incoming webhook of Slack; whoever knows its address may post."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutySettings:
    """A service of PagerDuty, by its Events API v2 integration key."""

    url: str
    routing_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """An address that takes signed JSON."""

    url: str = field(repr=False)
    signing_key: str = field(repr=False)
    allow_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSettings:
    """A mail server that takes mail by SMTP with STARTTLS and login."""

    host: str
    port: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]
    ca_file: str = ""


ChannelKind = SlackSettings | PagerDutySettings | WebhookSettings | EmailSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """One channel: where it leads, how much at once, how long to wait, and who stands in for it."""

    name: str
    kind: ChannelKind
    fallback: tuple[str, ...] = ()
    workers: int = 8
    timeout: timedelta = timedelta(seconds=5)
