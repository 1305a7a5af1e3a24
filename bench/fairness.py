"""Fairness between tenants: how much later one tenant's alerts come while another one floods the system.

`python -m bench.fairness` starts a secure system of its own with two tenants and stops it afterwards; this takes about
six minutes. Tenant `steady` sends 2,000 events a second and lets alerts fire one after the other. Beside it the
tenant `flood` sends events as fast as it can, has 300 rules, edits a rule again and again, has 10,000 groups, and lets
200 alerts a second fire, each in turn and all together; before each of them `steady` is measured alone. All together
are measured once more in a system that takes no more events of `flood` than `steady` sends: the limits then let in what
two cores can do. Another flood, `storm`, is measured when it is asked for: 1,000 alerts a second, more than the manager
takes. `--no-limits` leaves out the limits of the tenant that floods.

Measured are the delays from hop to hop: the deciding event, the alert and the notification on Kafka (by the time that
Kafka gave the records), the message at the sink.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TypeAlias

import grpc
from rich.console import Console
from rich.table import Table

from bench.load import Credentials
from bench.measures import quantile
from bench.probes import create_rule, delete_rules, delivered, from_now, probe
from stack.first_key import create_first_key
from stack.secure_files import SecureFiles
from stack.servers import SERVERS
from stack.sink_addresses import SIGNING_KEY
from stack.testing import Servers, isolated_wiring, temporary_system
from stack.wiring import Wiring
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub
from tocsin.routing.v1.routing_service_pb2 import SetRoutingRequest
from tocsin.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import (
    CreateAlertRuleRequest,
    ListAlertRulesRequest,
    UpdateAlertRuleRequest,
)
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

# Seconds by probe, and that by what was waited for.
_Seconds: TypeAlias = Mapping[str, float]
_Delays: TypeAlias = Mapping[str, _Seconds]
_STEADY, _FLOOD = "steady", "flood"
_STEADY_RATE = 2000
_PAUSE = 0.07
_SETTLING = 3.0
# Longer than any measurement; floods are ended when it is over.
_FLOOD_S = 120.0
_QUIET_S = 0.5
_MAX_QUIET_S = 60.0
_RULES = 300
_GROUPS = 10_000
_GOAL = 2.0
_MOST_EVENTS = 20_000
_LIMITS = {
    "MANAGER_TENANT_RULES": f"0,{_FLOOD}=400",
    "EVALUATOR_TENANT_GROUPS": f"0,{_FLOOD}=4000",
    "NOTIFIER_TENANT_NOTIFICATIONS_PER_HOUR": f"0,{_FLOOD}=240",
}
_CHANNEL = "{kind: webhook, tenant: TENANT, url: URL, signing_key_file: KEY, allow_private: true}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What one kind of flood sends a second, and the rules that it needs; `rate` None: as much as is accepted."""

    rate: float | None
    size: int
    rules: Sequence[AlertRule] = ()


def _rule(name: str, selects: str, condition: str) -> AlertRule:
    return AlertRule(
        name=name,
        type=AlertRule.CUSTOM,
        filter=selects,
        condition=condition,
        threshold=1,
        window_minutes=1,
        severity=AlertRule.MEDIUM,
        group_by=["service"],
    )


FLOODS: Mapping[str, Flood] = {
    "events": Flood(rate=None, size=500),
    "rules": Flood(
        rate=2000,
        size=50,
        rules=[
            _rule(f"rule {number}", f'message.contains("word-{number}")', "count > 1000000") for number in range(_RULES)
        ],
    ),
    "edits": Flood(rate=10_000, size=500, rules=[_rule("edited", "level == WARN", "count > 1000000")]),
    "groups": Flood(rate=10_000, size=500, rules=[_rule("groups", "level == INFO", "count > 1000000")]),
    "notifications": Flood(rate=200, size=20, rules=[_rule("alerts", "level == FATAL", "count >= threshold")]),
    "storm": Flood(rate=1000, size=100, rules=[_rule("storm", "level == FATAL", "count >= threshold")]),
}
# More alerts a second than the manager takes, and not among the floods that are measured unless asked for.
_STORM = "storm"
# The flood that edits its rule meanwhile, and how often.
_EDITING, _EDIT_S = "edits", 0.5
# The floods of which each event lets an alert fire.
_FIRING = ("notifications", _STORM)
_USUAL = [kind for kind in FLOODS if kind != _STORM]
# All of these together.
_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A tenant and how it calls."""

    target: str
    credentials: Credentials
    channel: grpc.Channel


def flood_events(kind: str, chance: random.Random) -> Iterator[list[LogEvent]]:
    """Return the batches that a flood sends, one after the other, without an end."""
    size = FLOODS[kind].size
    level = LogEvent.FATAL if kind in _FIRING else LogEvent.INFO if kind == "groups" else LogEvent.WARN
    for number in count():
        first = number * size
        if kind in _FIRING:
            services = [f"storm-{first + place}" for place in range(size)]
        elif kind == "groups":
            services = [f"group-{(first + place) % _GROUPS}" for place in range(size)]
        else:
            services = [f"flood-{place % 10}" for place in range(size)]
        words = (f"word-{chance.randrange(_RULES)} happened" for _ in services)
        yield [LogEvent(service=each, level=level, message=word) for each, word in zip(services, words, strict=True)]


def send_flood(kind: str, target: str, credentials: Credentials, seconds: float) -> None:
    """Send what belongs to a flood for so many seconds; what is refused is tried no second time."""
    # Prepared before: the one that sends shall not be what is slow.
    source = flood_events(kind, random.Random(1))  # noqa: S311 - nothing secret
    is_new_each_time = kind in _FIRING
    prepared = [] if is_new_each_time else [IngestBatchRequest(events=next(source)) for _ in range(40)]
    flood, ends = FLOODS[kind], time.monotonic() + seconds
    with _channel(target, credentials) as channel, ThreadPoolExecutor(5) as pool:
        edits = pool.submit(_edit_rules, channel, ends) if kind == _EDITING else None
        stub = LogIngestServiceStub(channel)

        def send(first: int) -> None:
            began = time.monotonic()
            for number in count():
                due = began + number * flood.size / flood.rate if flood.rate else 0.0
                time.sleep(max(due - time.monotonic(), 0.0))
                if time.monotonic() >= ends:
                    return
                request = prepared[(first + number) % len(prepared)] if prepared else None
                try:
                    stub.IngestBatch(request or IngestBatchRequest(events=next(source)), timeout=10)
                except grpc.RpcError:
                    time.sleep(0.01)

        list(pool.map(send, range(4 if flood.rate is None else 1)))
        if edits:
            edits.result()


def _edit_rules(channel: grpc.Channel, ends: float) -> None:
    """Let the tenant's rules select something else, again and again."""
    stub = AlertRuleServiceStub(channel)
    rules = stub.ListAlertRules(ListAlertRulesRequest(), timeout=10).alert_rules
    for number in count():
        for each in rules:
            if time.monotonic() >= ends:
                return
            edited = AlertRule(filter=f'{each.filter} && host != "{number}"')
            stub.UpdateAlertRule(UpdateAlertRuleRequest(id=each.id, alert_rule=edited), timeout=10)
            time.sleep(_EDIT_S)


def _channel(target: str, credentials: Credentials) -> grpc.Channel:
    tls = grpc.ssl_channel_credentials(credentials.ca_file.read_bytes())
    key = grpc.access_token_call_credentials(credentials.key_file.read_text().strip())
    return grpc.secure_channel(target, grpc.composite_channel_credentials(tls, key))


@contextmanager
def _two_tenants(folder: Path, *, limits: Mapping[str, str]) -> Iterator[tuple[Wiring, dict[str, Member]]]:
    """Start servers and a system, and make a key for each tenant."""
    files = SecureFiles(home=folder)
    files.prepare(datetime.now(UTC))
    servers = Servers(folder / "servers", _say)
    with ExitStack() as stack:
        stack.callback(servers.stop)
        servers.start(*SERVERS)
        wiring = stack.enter_context(isolated_wiring(servers.addresses))
        (folder / "signing").write_text(SIGNING_KEY)
        url = f"http://127.0.0.1:{wiring.ports.sinks}/webhook"
        form = _CHANNEL.replace("URL", json.dumps(url)).replace("KEY", str(folder / "signing"))
        channels = [f"  {tenant}-hook: {form.replace('TENANT', tenant)}" for tenant in (_STEADY, _FLOOD)]
        (folder / "routes.yaml").write_text("\n".join(["channels:", *channels]))
        # The sinks run, too.
        secured = replace(
            wiring, secure=files, external=asdict(wiring.addresses), routes=folder / "routes.yaml", sinks=True
        )
        stack.enter_context(temporary_system(secured, folder, _say, settings=limits))
        members = {}
        for tenant in (_STEADY, _FLOOD):
            database = {"MANAGER_DATABASE_URL": wiring.addresses.postgres}
            text = create_first_key(database, name=tenant, tenant=tenant).text
            key_file = folder / f"{tenant}.key"
            key_file.write_text(text)
            target = f"localhost:{wiring.ports.edge}"
            credentials = Credentials(ca_file=files.ca, key_file=key_file)
            channel = stack.enter_context(_channel(target, credentials))
            members[tenant] = Member(target=target, credentials=credentials, channel=channel)
            _await_key(members[tenant])
            root = Route(receivers=[f"{tenant}-hook"])
            RoutingServiceStub(channel).SetRouting(SetRoutingRequest(tree=RoutingTree(root=root), author="bench"))
        yield secured, members


def _await_key(member: Member) -> None:
    """Wait until ingest knows the key, as it does within seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            LogIngestServiceStub(member.channel).IngestBatch(IngestBatchRequest(), timeout=10)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or time.monotonic() > deadline:
                return
            time.sleep(0.2)
        else:
            return


def _create_rules(member: Member, rules: Sequence[AlertRule]) -> list[str]:
    stub = AlertRuleServiceStub(member.channel)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda rule: stub.CreateAlertRule(CreateAlertRuleRequest(alert_rule=rule), timeout=30), rules
        )
        return [answer.alert_rule.id for answer in answers]


def measure(wiring: Wiring, members: Mapping[str, Member], kinds: Sequence[str], prefix: str, probes: int) -> _Delays:
    """Return how long alerts of the one tenant take from hop to hop, under floods of the other."""
    steady, flood, brokers = members[_STEADY], members[_FLOOD], wiring.addresses.kafka
    _await_quiet(brokers, wiring.topic_prefix)
    rules = _create_rules(flood, [rule for kind in kinds for rule in FLOODS[kind].rules])
    seconds = ("--seconds", str(_FLOOD_S))
    floods = [_start(flood, "bench.fairness", "--flood", kind, *seconds) for kind in kinds]
    load = _start(steady, "bench.load", *seconds, "--rate", str(_STEADY_RATE), "--size", "50", "--services", "20")
    try:
        time.sleep(_SETTLING)
        found = probe(
            steady.channel, prefix, count=probes, pause=_PAUSE, brokers=brokers, topic_prefix=wiring.topic_prefix
        )
        to_channel = delivered(wiring.ports.sinks, prefix, count=len(found.to_notification), channel="webhook")
    finally:
        for process in (load, *floods):
            process.terminate()
            process.communicate()
        delete_rules(flood.channel, rules)
    return {
        "event to alert": found.to_alert,
        "alert to notification": _between(found.to_alert, found.to_notification),
        "notification to channel": _between(found.to_notification, to_channel),
        "event to channel": to_channel,
    }


def _between(first: _Seconds, second: _Seconds) -> _Seconds:
    return {probe: second[probe] - first[probe] for probe in first.keys() & second.keys()}


def _await_quiet(brokers: str, topic_prefix: str) -> None:
    """Wait until what the last flood has left behind is done: neither alerts nor notifications come."""
    deadline, before = time.monotonic() + _MAX_QUIET_S, None
    while (now := _ends(brokers, topic_prefix)) != before and time.monotonic() < deadline:
        before = now
        time.sleep(_QUIET_S)


def _ends(brokers: str, topic_prefix: str) -> list[int]:
    found = [from_now(brokers, f"{topic_prefix}{name}") for name in ("alerts", "notifications")]
    for position in found:
        position.consumer.close()
    return [place.offset for position in found for place in position.ends]


def _start(member: Member, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    own = ("--target", member.target)
    keys = ("--ca-file", str(member.credentials.ca_file), "--key-file", str(member.credentials.key_file))
    return subprocess.Popen([sys.executable, "-m", module, *own, *keys, *arguments], stdout=subprocess.PIPE)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--probes", type=int, default=200, help="alerts of the steady tenant in each measurement")
    parser.add_argument("--no-limits", action="store_true", help="without limits of the tenant that floods")
    parser.add_argument("--only", choices=[*FLOODS, _ALL], help="only this flood")
    parser.add_argument(
        "--events",
        type=int,
        default=_MOST_EVENTS,
        help="events a second that the tenant that floods may send (%(default)s)",
    )
    parser.add_argument("--flood", choices=FLOODS, help=argparse.SUPPRESS)
    for name in ("--target", "--ca-file", "--key-file"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        credentials = Credentials(ca_file=Path(given.ca_file), key_file=Path(given.key_file))
        send_flood(given.flood, given.target, credentials, given.seconds)
        return
    kinds = [given.only] if given.only else [*_USUAL, _ALL]
    run(given.probes, {} if given.no_limits else _limits(given.events), kinds)
    if not given.only and not given.no_limits:
        run(given.probes, _limits(_STEADY_RATE), [_ALL])


def _limits(events: int) -> Mapping[str, str]:
    return {**_LIMITS, "INGEST_TENANT_EVENTS_PER_SECOND": f"0,{_FLOOD}={events}"}


def run(probes: int, limits: Mapping[str, str], floods: Sequence[str]) -> None:
    """Start a system, measure beside these floods, and print the table."""
    chosen = {name: [name] if name in FLOODS else _USUAL for name in floods}
    found: list[tuple[str, _Delays, _Delays]] = []
    with (
        tempfile.TemporaryDirectory(prefix="tocsin-bench-", ignore_cleanup_errors=True) as scratch,
        _two_tenants(Path(scratch), limits=limits) as (wiring, members),
    ):
        prefix = create_rule(members[_STEADY].channel)
        _say("warming up")
        measure(wiring, members, [], f"{prefix}warm-", probes // 2)
        for name, kinds in chosen.items():
            _say(f"{_STEADY} alone, then beside {name}")
            alone = measure(wiring, members, [], f"{prefix}alone-{name}-", probes)
            found.append((name, alone, measure(wiring, members, kinds, f"{prefix}beside-{name}-", probes)))
    _print(found, probes, dict(limits))


def _print(found: Sequence[tuple[str, _Delays, _Delays]], probes: int, limits: Mapping[str, str]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    table = Table("flood", "delay", "alone p50", "alone p99", "beside p50", "beside p99", "ratio of p99", "alerts")
    table.title, table.title_justify = f"Delays in ms; goal: a ratio of {_GOAL:g} or less", "left"
    for name, alone, beside in found:
        for hop, before in alone.items():
            figures = [quantile(each, share) for each in (before, beside[hop]) for share in (0.5, 0.99)]
            texts = ["none" if figure is None else f"{figure:,.0f}" for figure in figures]
            ratio = f"{figures[3] / figures[1]:.2f}" if figures[1] and figures[3] else "-"
            table.add_row(name, hop, *texts, ratio, f"{len(before)} and {len(beside[hop])} of {probes}")
    console.print(table)
    console.print(f"limits: {json.dumps(limits) if limits else 'none'}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
