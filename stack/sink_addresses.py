"""The addresses of the local sinks, the made-up secrets that they accept, and the variables of a routes file with both.

The supervisor imports this, so it stays free of what the sinks themselves need.
"""

from pathlib import Path

from stack.ports import Ports
from stack.start_options import StartOptions

# Any other token in place of the last part is accepted too: one address for each Slack channel.
SLACK_PATH = "/slack/services/T0TOCSIN0/B0TOCSIN0/tocsinMadeUpSlackToken00"
ROUTING_KEY = "70c51e00000000000000000000000000"
SIGNING_KEY = "made-up-webhook-signing-key"
USERNAME = "tocsin-mailer"
PASSWORD = "made-up-mail-password"  # noqa: S105 - known to the sink and its tests only
AUTHORITY = "authority.pem"

# Beside a routes file of one's own, whose variables may have the same names and lead to real channels.
BESIDE_PREFIX = "SINK_"


def sink_environment(host: str, http_port: int, smtp_port: int, authority: Path) -> dict[str, str]:
    """Return the variables of the notifier's example routes file, with the addresses of sinks on these ports."""
    url = f"http://{host}:{http_port}"
    return {
        "SLACK_WEBHOOK_URL": url + SLACK_PATH,
        "PAGERDUTY_URL": url + "/pagerduty/v2/enqueue",
        "PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
        "SMTP_HOST": host,
        "SMTP_PORT": str(smtp_port),
        "SMTP_USERNAME": USERNAME,
        "SMTP_PASSWORD": PASSWORD,
        "SMTP_FROM": "tocsin@example.com",
        "SMTP_TO": "on-call@example.com",
        "SMTP_CA_FILE": str(authority),
        "WEBHOOK_URL": url + "/webhook",
        "WEBHOOK_SIGNING_KEY": SIGNING_KEY,
        "WEBHOOK_ALLOW_PRIVATE": "true",
    }


def sink_variables(options: StartOptions, ports: Ports, folder: Path) -> dict[str, str]:
    """Return what the notifier gets to reach this folder's sinks: SINK_<NAME> beside a routes file of one's own."""
    if not options.runs_sinks:
        return {}
    variables = sink_environment("127.0.0.1", ports.sinks, ports.sinks_smtp, folder / AUTHORITY)
    if options.routes is None:
        return variables
    return {BESIDE_PREFIX + name: value for name, value in variables.items()}
