"""The match stage: from the events of one fetch to partial aggregates of each rule, block, group and pane.

Way of a fetch: `aggregation.match_events` puts each record into its block (`blocks`), computes the columns of its
events (`events`), and puts the events into buckets (`bucketing`); rules with the same scope, grouping and window share
a bucketing. Each rule then selects rows of the columns (`selection`; `lowering` turns CEL into operations on columns)
and adds what it selected to the rows of the block. A flush writes the changed rows to `window-partials`.

Invariants:

- A block is 256 consecutive offsets of one source partition. Its borders depend on offsets only, so all instances cut
  the same blocks.
- A row (rule, selection, group, pane) is cumulative from the start of its block: it is a function of the records of
  the block up to `up_to` and of the rules. It does not depend on how these records were cut into fetches or flushes.
  Sums are therefore added event by event, in the order of offsets.
- Every flush writes the progress of the block to each output partition, also where no row changed, so a reader notices
  a gap.
- The times of a source are written with or after the rows that they belong to, never before, so the watermark cannot
  overtake rows.

Replay: an offset is committed only at the border of a block, once everything up to it is in Kafka. After a crash, a
rebalance or a failed flush the current blocks are counted again from their starts. They write rows with the same keys
and the same numbers for the same `up_to`, and the window stage keeps for each key the row that has come furthest. Two
owners at once therefore write nothing that counts twice.

Why it is exact: a row replaces, it never adds, and each event belongs to exactly one block.
"""
