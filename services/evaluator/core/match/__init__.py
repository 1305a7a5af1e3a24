"""The match stage: from the events of one fetch to partial aggregates of each rule, block, group and pane.

Way of a fetch: `aggregation.match_events` puts each record into its block (`blocks`), computes the columns of its
events (`events`), and lets the plan of all rules say which events each rule selects (`plan`). It puts the events into
buckets of a block, a pane and a group (`bucketing`); rules with the same scope, grouping and window share a bucketing
and its totals. Then what all rules selected is added to the rows of each block at once.

Why the cost of an event hardly depends on the number of rules: rules are not evaluated one after the other. Each is
split into clauses, alternatives of conditions on one field (`terms`). For each field one index answers the conditions
of all rules (`field_index`): it looks up the distinct values of the fetch (`distinct`) among the values that rules
name, sorts numbers once for all bounds (`comparisons`), and lets Hyperscan look for all patterns in one scan of the
joined texts (`scanning`, `pattern_index`) and then for what else they need in the texts that this proposes
(`confirming`). Only a rule with rows in each of its clauses is looked at, and only its
smallest clause's rows are narrowed by the others and by what no index answers (`selection`; `lowering` turns CEL into
operations on columns).

Why the selection is exact: a condition on one field is evaluated by the same lowered expression as before, only on the
distinct values. Hyperscan gets patterns that this project read and wrote again (`regex_syntax`, `regex` and
`hyperscan_patterns` of the domain); it never misses a match, and where it may report one too many the expression itself
confirms it. A pattern that cannot be read so, that costs too much, or (for a while) that half of the texts have is left
to the expression. What cannot be evaluated fails for its rules alone; the window stage is told in which panes
(`missed`).

Rules of one bucketing and value field that have selected exactly the same events of a block so far are a class, and
share its rows (`sharing`): they are counted once and written once, with the list of the rules. All rules begin a block
together. A class is split when a fetch distinguishes its rules, and the new class begins with a copy of its rows.

Rows are columns from here to the wire, and no Python object stands for a row: `counted_rows` holds those of a block. A
pair of a class and a bucket has a slot there (`slots`), which is found by a binary search; the output partitions of
a slot are found when it is first sent (`outputs`), and the samples of rows are indexes of the events that are samples
(`row_samples`). A flush takes the changed rows of each block and writes them to `window-partials`: those of all sources
in one record for each output partition, and further records where a source has begun another block.

Before a flush of many rows, and in the pause after it, the rows of tenants with few of them are written alone
(`early_flush`).

Canaries, by which the system measures itself, are events as others, but do not move event time (`canaries`).

Invariants:

- A block is 256 consecutive offsets of one source partition. Its borders depend on offsets only, so all instances cut
  the same blocks.
- A row (rule, selection, group, pane) is cumulative from the start of its block: it is a function of the records of
  the block up to `up_to` and of the rules. It does not depend on how these records were cut into fetches or flushes.
  Sums are therefore added event by event, in the order of offsets.
- Which rules share a row does depend on how fetches were cut, and on what a rule has missed. It says nothing about what
  they count: a reader takes the row for one of each rule (`shared_rows`), and a later row of other sharers replaces it.
- Every flush writes the progress of the block to each output partition, also where no row changed, so a reader notices
  a gap. All but its last batch there say that it goes on: the reader judges what it brought together.
- The times of a source are written with or after the rows that they belong to, never before, so the watermark cannot
  overtake rows. An early flush therefore repeats the times of the flush before.

Replay: an offset is committed only at the border of a block, once everything up to it is in Kafka. After a crash, a
rebalance or a failed flush the current blocks are counted again from their starts. They write rows with the same keys
and the same numbers for the same `up_to`, and the window stage keeps for each key the row that has come furthest. Two
owners at once therefore write nothing that counts twice.

What need not be written again: the metadata of the committed offset say up to which offset of the current block Kafka
has acknowledged all records of all flushes (`sent_block`). A new owner counts the block from its start, but flushes
only rows that records from this offset on change. Nothing is missing: a row that they do not change is in
`window-partials` as a former owner wrote it, and any other is written with all that it counts. The next flush says that
it follows on an offset that was reached, so a reader sees no gap. This holds for rules that select the same, as many
output partitions, and blocks of which no rule missed an event; otherwise everything is written again. What the new
owner misses it writes in any case: it depends on the process, not on the records alone.

Why it is exact: a row replaces, it never adds, and each event belongs to exactly one block.
"""
