"""What a whole set of rules selects in the events of a fetch.

Each rule is a conjunction of clauses (`terms`). The terms of all rules are answered together, field by field
(`field_index`). A rule is looked at only if each of its clauses is true of some event; then its rows are those of the
clause with the fewest, narrowed by the others and by what no index can answer.
"""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from services.evaluator.core.match.cpu_meter import CpuClock, CpuMeter, share_costs
from services.evaluator.core.match.events import EventColumns, Ints, RowMask
from services.evaluator.core.match.field_index import FieldIndex, FieldMatches
from services.evaluator.core.match.selection import Selection, compile_parts
from services.evaluator.core.match.terms import Clause, Field, Term, split
from services.rule_language.checking import Expression
from services.rule_language.syntax_tree import Node, names

# What stands for a rule: the plan returns it and does not look into it.
RuleT = TypeVar("RuleT", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Generic[RuleT]):
    """What each rule selected in one fetch."""

    # The rows of each rule that selected any, rising. Rules may share an array: do not write into it.
    rows: Mapping[RuleT, Ints]
    # Rules that could not be evaluated, and why: they miss this fetch, the others do not.
    failed: Mapping[RuleT, Exception]
    # Seconds of CPU of each rule's own work, if there was a clock; of a term, each rule that has it bears a part.
    costs: Mapping[RuleT, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Rest:
    """What no index can answer."""

    select: Selection
    names: tuple[str, ...]

    @classmethod
    def of(cls, parts: Sequence[tuple[Expression, Node]]) -> "_Rest | None":
        """Compile the parts; None when there are none."""
        if not parts:
            return None
        # A node also names the variables of macros.
        needed = {name for expression, node in parts for name in expression.names & names(node)}
        return cls(compile_parts(parts), tuple(sorted(needed)))

    def narrow(self, columns: EventColumns, rows: Ints | None) -> Ints:
        """Return those of the rows (of all, when None) for which it is true."""
        if rows is None:
            return np.flatnonzero(self.select(columns, None))
        if self.names and 2 * len(rows) < len(columns):
            return rows[self.select(columns.take(rows, self.names), None)]
        return np.flatnonzero(self.select(columns, _mask(rows, len(columns))))


@dataclass(frozen=True, slots=True, eq=False)
class _PlannedRule(Generic[RuleT]):
    rule: RuleT
    # The numbers of its clauses.
    clauses: tuple[int, ...]
    rest: _Rest | None


class RulePlan(Generic[RuleT]):
    """A set of rules, compiled to be evaluated together. One thread at a time may select."""

    def __init__(self, rules: Mapping[RuleT, Sequence[Expression]], before: "RulePlan[RuleT] | None" = None) -> None:
        clauses: dict[Clause, int] = {}
        sources: dict[Term, Expression] = {}
        self._rules: list[_PlannedRule[RuleT]] = []
        for rule, expressions in rules.items():
            conditions = split(expressions)
            sources = conditions.sources | sources
            numbers = tuple(clauses.setdefault(clause, len(clauses)) for clause in conditions.clauses)
            self._rules.append(_PlannedRule(rule, numbers, _Rest.of(conditions.rest)))
        self._indexes = _index_fields(sources, before.indexes if before else {})
        numbers_of_terms = {term: number for number, term in enumerate(sources)}
        self._clauses = [tuple(numbers_of_terms[term] for term in clause) for clause in clauses]
        # The clauses of all rules, one rule after the other. A rule without clauses has one that is always true.
        always = len(clauses)
        listed = [planned.clauses or (always,) for planned in self._rules]
        self._clauses_of_rules = np.array([clause for each in listed for clause in each], dtype=np.int64)
        self._starts = np.cumsum([0, *map(len, listed)])[:-1]
        # The rules of the last call that were left out, and the terms that no other rule has.
        self._left_out: tuple[frozenset[RuleT], frozenset[int]] = (frozenset(), frozenset())

    @property
    def indexes(self) -> Mapping[Field, FieldIndex]:
        """The terms of all rules, by field."""
        return self._indexes

    @property
    def needs_compiling(self) -> bool:
        """Whether `compile` would make it faster."""
        return any(index.scanner.needs_compiling for index in self._indexes.values())

    def compile(self) -> Callable[[], None]:
        """Compile again without the patterns that turned out to be too frequent, while another thread selects.

        Return what puts the result to use; call it when no thread selects.
        """
        scanners = [index.scanner for index in self._indexes.values() if index.scanner.needs_compiling]
        compiled = [(scanner, scanner.compile()) for scanner in scanners]

        def use() -> None:
            for scanner, result in compiled:
                scanner.use(result)

        return use

    def select(
        self, columns: EventColumns, without: frozenset[RuleT] = frozenset(), clock: CpuClock | None = None
    ) -> Selected[RuleT]:
        """Return the rows of each rule that selects any of these events; some rules are left out.

        With a clock of CPU time also what each rule's own work costs.
        """
        if not len(columns):
            return Selected(rows={}, failed={})
        terms: CpuMeter[int] = CpuMeter(clock)
        own: CpuMeter[RuleT] = CpuMeter(clock)
        unneeded = self._terms_of(without)
        matches = [index.match(columns, unneeded, terms) for index in self._indexes.values()]
        clauses = _ClauseRows(self._clauses, matches, len(columns))
        rows: dict[RuleT, Ints] = {}
        failed: dict[RuleT, Exception] = {}
        for index in self._promising(clauses):
            planned = self._rules[index]
            if planned.rule in without:
                continue
            try:
                selected = _select(planned, clauses, columns, own)
            except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
                failed[planned.rule] = error
                continue
            if len(selected):
                rows[planned.rule] = selected
        return Selected(rows=rows, failed=failed, costs=self._costs(own.seconds, terms.seconds, without))

    @functools.cached_property
    def _rules_of_terms(self) -> Mapping[int, Sequence[RuleT]]:
        """The rules that have each term."""
        rules: dict[int, dict[RuleT, None]] = {}
        for planned in self._rules:
            for clause in planned.clauses:
                for term in self._clauses[clause]:
                    rules.setdefault(term, {})[planned.rule] = None
        return {term: tuple(each) for term, each in rules.items()}

    def _terms_of(self, without: frozenset[RuleT]) -> frozenset[int]:
        """Return the terms that only these rules have."""
        if self._left_out[0] != without:
            terms = (term for term, rules in self._rules_of_terms.items() if without.issuperset(rules))
            self._left_out = without, frozenset(terms)
        return self._left_out[1]

    def _costs(
        self, own: Mapping[RuleT, float], terms: Mapping[int, float], without: frozenset[RuleT]
    ) -> Mapping[RuleT, float]:
        sharers = {term: [rule for rule in self._rules_of_terms[term] if rule not in without] for term in terms}
        return share_costs(own, terms, sharers)

    def _promising(self, clauses: "_ClauseRows") -> list[int]:
        """Return the rules each of whose clauses is true of some event."""
        if not self._rules:
            return []
        holds = np.array([*clauses.occurring, True], dtype=np.bool_)[self._clauses_of_rules]
        promising: list[int] = np.flatnonzero(np.logical_and.reduceat(holds, self._starts)).tolist()
        return promising


def _index_fields(terms: Mapping[Term, Expression], before: Mapping[Field, FieldIndex]) -> dict[Field, FieldIndex]:
    by_field: dict[Field, dict[int, tuple[Term, Expression]]] = {}
    for number, (term, expression) in enumerate(terms.items()):
        by_field.setdefault(term.field, {})[number] = term, expression
    return {field: FieldIndex(field, listed, before.get(field)) for field, listed in by_field.items()}


class _ClauseRows:
    """The rows of the clauses in one fetch."""

    def __init__(self, clauses: Sequence[tuple[int, ...]], matches: Sequence[FieldMatches], size: int) -> None:
        self._clauses = clauses
        self._size = size
        self._rows = {number: rows for each in matches for number, rows in each.rows.items()}
        self._failed = {number: error for each in matches for number, error in each.failed.items()}
        self._joined: dict[int, Ints] = {}
        self._masks: dict[int, RowMask] = {}

    @property
    def occurring(self) -> list[bool]:
        """Whether each clause is true of any event, or could not be evaluated."""
        known = self._rows.keys() | self._failed.keys()
        return [not known.isdisjoint(terms) for terms in self._clauses]

    def rows(self, clause: int) -> Ints:
        """Return where a clause is true; raise what went wrong with one of its terms."""
        terms = self._clauses[clause]
        for term in terms if self._failed else ():
            if term in self._failed:
                raise self._failed[term]
        return self._rows[terms[0]] if len(terms) == 1 else self._join(clause)

    def mask(self, clause: int) -> RowMask:
        """Return where a clause is true, as a mask."""
        if clause not in self._masks:
            self._masks[clause] = _mask(self.rows(clause), self._size)
        return self._masks[clause]

    def _join(self, clause: int) -> Ints:
        if clause not in self._joined:
            mask = np.zeros(self._size, dtype=np.bool_)
            for term in self._clauses[clause]:
                if term in self._rows:
                    mask[self._rows[term]] = True
            self._joined[clause] = np.flatnonzero(mask)
        return self._joined[clause]


def _select(planned: _PlannedRule[RuleT], clauses: _ClauseRows, columns: EventColumns, own: CpuMeter[RuleT]) -> Ints:
    rows: Ints | None = None
    if planned.clauses:
        fewest, *others = sorted(planned.clauses, key=lambda clause: len(clauses.rows(clause)))
        rows = clauses.rows(fewest)
        for clause in others:
            rows = rows[clauses.mask(clause)[rows]]
    if planned.rest is not None:
        return own.run(planned.rule, functools.partial(planned.rest.narrow, columns, rows))
    return np.arange(len(columns)) if rows is None else rows


def _mask(rows: Ints, size: int) -> RowMask:
    mask = np.zeros(size, dtype=np.bool_)
    mask[rows] = True
    return mask
