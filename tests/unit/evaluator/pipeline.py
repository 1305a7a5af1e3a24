"""Both stages in memory, with everything that can go wrong between them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import numpy as np

from services.chassis.kafka import Record as KafkaRecord
from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.adapters.window_partials_sink import encode_bounded
from services.evaluator.adapters.window_partials_wire import decode_batch
from services.evaluator.adapters.window_state import decode_state, encode_state
from services.evaluator.core.match.aggregation import begin_again, match_again, match_events
from services.evaluator.core.match.blocks import SourcePartition, flush_sources
from services.evaluator.core.match.early_flush import changed_rows, flush_units
from services.evaluator.core.records import SECOND_NS, Group, Transition, TransitionState
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.core.window import judging
from services.evaluator.core.window.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from services.evaluator.core.window.episode import MergedAggregate
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.stage import WindowStage
from services.rule_language.rule import Draft, Rule, RuleType, complete
from tocsin.logs.v1.log_event_pb2 import LogBatch, LogEvent

START = 1_700_000_000 // 60 * 60
ALLOWANCE_NS = 2 * SECOND_NS
DECODER = LogDecoder()


@dataclass(frozen=True)
class Event:
    """An event as tests write it; `second` counts from START."""

    second: float
    service: str = "a"
    level: str = "ERROR"
    response_time: float | None = None

    def message(self) -> LogEvent:
        event = LogEvent(
            service=self.service,
            level=LogEvent.Level.Value(self.level),
            message=f"{self.level} at {self.second}",
            response_time=self.response_time,
        )
        event.event_time.FromNanoseconds(moment(self.second))
        return event


def moment(second: float) -> int:
    return START * SECOND_NS + int(second * SECOND_NS)


def rule(name: str, condition: str, threshold: float = 2, **changed: object) -> Rule:
    fields: dict[str, object] = {
        "id": name,
        "name": name,
        "type": RuleType.CUSTOM,
        "filter": "level >= ERROR",
        "group_by": ("service",),
        "condition": condition,
        "threshold": threshold,
        "window": _seconds(10),
        "lateness": _seconds(5),
        "severity": Severity.HIGH,
        "revision": 1,
        "selection_revision": 1,
    }
    return complete(Draft(**(fields | changed)))  # type: ignore[arg-type]


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@dataclass
class Matcher:
    """One instance of the match stage; several may believe that they own a partition."""

    sources: dict[int, SourcePartition]
    positions: dict[int, int]


@dataclass
class Window:
    """One instance of the window stage on one partition."""

    stage: WindowStage
    position: int

    def content(self) -> Iterator[tuple[int, Group, MergedAggregate, int]]:
        """Return of each group in each open window its start, the numbers, and how many samples there are."""
        for windows in self.stage.windows.by_selection.values():
            for start_ns in windows.windows if windows.compiled else ():
                assert windows.compiled is not None
                window = judging.JudgedWindow(rules=windows, compiled=windows.compiled, start_ns=start_ns)
                table = self.stage.windows.table
                panes = judging.all_panes(table, [window])
                totals, samples = judging._totals(table, panes), table.samples(panes.slots)
                merged = judging._merged(table, panes, totals, np.arange(len(panes.slots)))
                for group, slot, aggregate in zip(panes.groups.tolist(), panes.slots.tolist(), merged, strict=True):
                    yield start_ns, table.groups[group], aggregate, len(samples[slot])


@dataclass
class Pipeline:
    """Kafka and both stages."""

    rules: RuleSet
    inputs: int = 3
    outputs: int = 2
    log: dict[int, list[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(list))
    partials: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    alerts: dict[str, Transition] = field(default_factory=dict)
    states: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    match_offsets: dict[int, int] = field(default_factory=dict)
    # What the metadata of these offsets say.
    sent: dict[int, int] = field(default_factory=dict)
    window_offsets: dict[int, tuple[int, str]] = field(default_factory=dict)
    late_events: int = 0
    late_by_rule: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    now_ns: int = moment(0)
    max_groups: int = 100_000

    def append(
        self, partition: int, events: Iterable[Event], arrival: float | None = None, tenant: str = SOLE_TENANT
    ) -> None:
        events = list(events)
        tenant = "" if tenant == SOLE_TENANT else tenant
        value = LogBatch(events=[event.message() for event in events], tenant=tenant).SerializeToString()
        arrived = arrival if arrival is not None else max((event.second for event in events), default=0.0) + 1
        self.log[partition].append((value, int((START + arrived) * 1000)))

    def matcher(self) -> Matcher:
        offsets = {partition: self.match_offsets.get(partition, 0) for partition in range(self.inputs)}
        sources = {
            each: SourcePartition.at(each, offset, sent_before=self.sent.get(each, offset))
            for each, offset in offsets.items()
        }
        return Matcher(sources, offsets)

    def match(self, matcher: Matcher, partition: int, most: int) -> int:
        first = matcher.positions[partition]
        records = self.records(partition, first, first + most)
        events, unreadable = DECODER.decode(records)
        assert not unreadable
        match_events(events, self.rules, matcher.sources)
        matcher.sources[partition].skip_sent()
        matcher.positions[partition] += len(records)
        return len(records)

    def records(self, partition: int, first: int, end: int) -> list[KafkaRecord]:
        return [
            KafkaRecord("log-events", partition, offset, None, value, (), arrived_ms)
            for offset, (value, arrived_ms) in enumerate(self.log[partition][first:end], start=first)
        ]

    def match_again(self, matcher: Matcher, partition: int, again: frozenset[CompiledRule], most: int) -> None:
        """Let rules that are new count what their tenants have in the current blocks of a partition."""
        source = matcher.sources[partition]
        if source.has_skipped_rows:
            matcher.sources[partition] = source.again(self.match_offsets[partition])
            matcher.positions[partition] = self.match_offsets[partition]
            return
        begin_again(again, [source])
        tenants = {compiled.rule.tenant for compiled in again}
        kept = self.records(partition, source.blocks[0].start, matcher.positions[partition])
        own = [each for each in kept if DECODER.decode([each])[0].records[0].tenant in tenants]
        for begin in range(0, len(own), most):
            match_again(DECODER.decode(own[begin : begin + most])[0], self.rules, again, matcher.sources)

    def flush(self, matcher: Matcher, idle: float | None = None) -> None:
        """Write what is new, also that every partition is idle if so, and commit."""
        for output, value in self.unflushed(matcher, idle):
            self.partials[output].append(value)
        for source in matcher.sources.values():
            self.match_offsets[source.partition] = source.commit_offset
            self.sent[source.partition] = source.sent_up_to

    def unflushed(self, matcher: Matcher, idle: float | None = None) -> list[tuple[int, bytes]]:
        """Return the records of a flush, each as small as possible."""
        flushed = flush_sources(
            matcher.sources.values(),
            outputs=self.outputs,
            source_partitions=self.inputs,
            idle_ns={} if idle is None else dict.fromkeys(matcher.sources, moment(idle)),
            rules_revision=self.rules.revision,
        )
        return [(output, value) for output, batch in flushed for value in encode_bounded(batch, max_bytes=1)]

    def flush_early(self, matcher: Matcher, random: Random) -> None:
        """Write what is new of some units before the rest, as an early flush does."""
        changed = [changed_rows(source, self.rules) for source in matcher.sources.values()]
        is_early = np.array([random.random() < 0.5 for each in changed for _ in each.tenant])
        flushed = flush_units(
            changed,
            is_early,
            outputs=self.outputs,
            source_partitions=self.inputs,
            rules_revision=self.rules.revision,
        )
        for output, batch in flushed:
            self.partials[output] += encode_bounded(batch, max_bytes=1)

    def window(self, output: int) -> Window:
        offset, metadata = self.window_offsets.get(output, (0, ""))
        known: dict[tuple[str, Group], Transition] = {}
        for value in self.states[output]:
            transition = decode_state(value)
            name = transition.rule_id, transition.group
            if name not in known or transition.rank >= known[name].rank:
                known[name] = transition
        limit = GroupLimit(max_groups=self.max_groups, partition=output, partitions=self.outputs)
        stage = WindowStage.restored(decode_checkpoint(offset, metadata), known.values(), ALLOWANCE_NS, limit=limit)
        window = Window(stage, offset)
        self.publish(output, stage.update_rules(self.rules, self.now_ns))
        return window

    def judge(self, output: int, window: Window, most: int, *, saves_state: bool = True) -> int:
        values = self.partials[output][window.position : window.position + most]
        outcome = window.stage.observe(list(enumerate(map(decode_batch, values), start=window.position)), self.now_ns)
        window.position += len(values)
        self.late_events += outcome.late_events
        self.late_by_rule.update(outcome.late_by_rule)
        self.gaps += len(outcome.gaps)
        self.publish(output, outcome.transitions, saves_state=saves_state)
        return len(values)

    def publish(self, output: int, transitions: Sequence[Transition], *, saves_state: bool = True) -> None:
        for transition in transitions:
            self.alerts.setdefault(transition.id, transition)
            if saves_state:
                self.states[output].append(encode_state(transition))

    def commit(self, output: int, window: Window) -> None:
        checkpoint: Checkpoint = window.stage.checkpoint(self.now_ns)
        self.window_offsets[output] = checkpoint.offset, encode_checkpoint(checkpoint)
        window.stage.expire(checkpoint)


def run(pipeline: Pipeline, end: float = 1000.0) -> Pipeline:
    """Run without failures: one match, one flush, one reading."""
    matcher = pipeline.matcher()
    for partition in range(pipeline.inputs):
        pipeline.match(matcher, partition, 10**6)
    pipeline.flush(matcher)
    pipeline.flush(matcher, idle=end)
    for output in range(pipeline.outputs):
        pipeline.judge(output, pipeline.window(output), 10**6)
    return pipeline


_STEPS = ("match", "match", "flush", "flush early", "judge", "judge", "commit", "crash match", "crash window")


class Chaos:
    """Drives a pipeline in a random order, with crashes of either stage, and two owners at once."""

    def __init__(self, pipeline: Pipeline, random: Random) -> None:
        self.pipeline, self.random = pipeline, random
        self.matchers = [pipeline.matcher(), pipeline.matcher()]
        self.windows = {output: [pipeline.window(output)] for output in range(pipeline.outputs)}

    def step(self) -> None:
        """Do something that may happen at any time."""
        pipeline, random = self.pipeline, self.random
        output = random.randrange(pipeline.outputs)
        kind = random.choice(_STEPS)
        owners = self.windows[output]
        window = random.choice(owners)
        matcher = random.choice(self.matchers)
        match kind:
            case "match":
                pipeline.match(matcher, random.randrange(pipeline.inputs), random.randint(1, 4))
            case "flush":
                pipeline.flush(matcher)
            case "flush early":
                pipeline.flush_early(matcher, random)
            case "judge":
                pipeline.judge(output, window, random.randint(1, 6))
            case "commit":
                pipeline.commit(output, window)
            case "crash match":
                self._crash_match(matcher)
            case "crash window":
                self._crash_window(output, window)

    def _crash_match(self, matcher: Matcher) -> None:
        """Crash in the middle of a flush: some of it has been written, and nothing committed."""
        for output, value in self.pipeline.unflushed(matcher)[: self.random.randrange(6)]:
            self.pipeline.partials[output].append(value)
        self.matchers[self.matchers.index(matcher)] = self.pipeline.matcher()

    def _crash_window(self, output: int, window: Window) -> None:
        """Crash, at worst between `alerts` and the state; or hang, and two owners go on."""
        pipeline, random, owners = self.pipeline, self.random, self.windows[output]
        pipeline.judge(output, window, random.randint(0, 6), saves_state=random.random() < 0.5)
        owners[owners.index(window)] = pipeline.window(output)
        if random.random() < 0.3:
            owners[:] = [pipeline.window(output), pipeline.window(output)]

    def settle(self) -> None:
        """Let everything that is in the logs reach the end of the pipe."""
        matcher = self.matchers[0]
        for partition in range(self.pipeline.inputs):
            self.pipeline.match(matcher, partition, 10**6)
        self.pipeline.flush(matcher)
        for output, owners in self.windows.items():
            for window in owners:
                self.pipeline.judge(output, window, 10**6)

    def finish(self, end: float) -> None:
        """Let the wall clock close everything."""
        self.settle()
        self.pipeline.flush(self.matchers[0], idle=end)
        self.settle()


# What of a transition must be the same however the events arrived: rule, resource, state, window, first window.
AlertFacts = tuple[str, str, TransitionState, float, float]


def alert_facts(transitions: Iterable[Transition]) -> set[AlertFacts]:
    return {
        (
            each.rule_id,
            each.resource,
            each.state,
            (each.window.start_ns - moment(0)) / SECOND_NS,
            (each.first_window_ns - moment(0)) / SECOND_NS,
        )
        for each in transitions
    }
