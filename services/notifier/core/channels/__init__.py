"""The kinds of channel. One kind is one module: its settings, how they are read from a routes file, and what is sent.

A new kind is a module like slack.py and a line in CHANNEL_KINDS. One over HTTP needs nothing else, since
adapters/channels/http.py posts what its `request` returns; one over another protocol needs an adapter beside that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.domain.tenants import SOLE_TENANT
from services.notifier.core.channels.email import EmailSettings
from services.notifier.core.channels.fields import ChannelFields
from services.notifier.core.channels.pagerduty import PagerDutySettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.channels.webhook import WebhookSettings

ChannelSettings = SlackSettings | PagerDutySettings | WebhookSettings | EmailSettings

CHANNEL_KINDS: Mapping[str, Callable[[ChannelFields], ChannelSettings]] = {
    settings.kind: settings.read for settings in (SlackSettings, PagerDutySettings, WebhookSettings, EmailSettings)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """One channel of a routes file: its settings, its fallbacks, how many deliveries at once, for how long each."""

    name: str
    settings: ChannelSettings
    fallback: tuple[str, ...] = ()
    workers: int = 8
    timeout: timedelta = timedelta(seconds=5)
    tenant: str = SOLE_TENANT
