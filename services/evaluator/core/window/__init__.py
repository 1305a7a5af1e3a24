"""The window stage: from partial aggregates to alerts that fire and resolve.

Way of the records of `window-partials`: `stage.WindowStage.observe` takes the records of one flush as one step. Of each
row that rules share it makes one for each of them whose group is judged here (`shared_rows`). It places each record in
the sequence of its source partition (`sequence`), puts the rows into the panes of their windows (`merging`,
`partition_windows`, `pane_table`), judges what changed by the rules' conditions (`judging`, `column_condition`), moves
the watermark (`watermark`) and closes windows that it has passed.
Each group of a rule goes through episodes (`episode`, `rule_windows`): a window that meets the condition begins one,
the first window that does not meet it when it closes ends it. What comes out are transitions.

All numbers are in arrays. A pane, one group in one window, has a slot, found by the numbers of its window and group
(`numbering`, `code_index`). By slot stand the columns of what is folded (`aggregates`, `exact_sums`), and by source and
slot the rows of growing blocks (`growing_blocks`, `row_index`). Samples are indexes into a table of events
(`sample_log`). Python objects are made of windows, of what fires, and of open alerts. What closed windows leave is
freed once it is much.

Invariants:

- The stage is a function of its records in order, the rules, and the checkpoint that it was restored from. It asks no
  clock: `now` only stamps transitions and expires what no rule uses. The records themselves say where a step ends, so
  it does not matter how many are read at once: a condition that holds only in between, or an earlier window that
  begins to meet it together with a later one, leads to the same transitions after a crash. Checkpoints stand between
  steps.
- In a step all rows come before all times: what one flush brought is late only by what was flushed before.
- A record has at most one block of each source. Of each source there is one growing block. A row of it replaces the
  former row of the same pane when its `up_to` is greater. When a later block begins, the block is folded into the panes
  for good; rows of folded blocks are stale and do not count.
- Merging is exact, associative and commutative, so neither order nor grouping matters: a sum is kept exactly, as two
  doubles where these suffice and as an integer otherwise, and rounded once.
- The watermark is the least of the sources' greatest event times. It never goes back, and a source is idle only if
  Kafka has nothing more of it.
- A window is judged while it is open and closed once; events for a closed window are counted as late, by rule. How
  many distinct events these are no rule's rows can say. So the match stage counts each event that several rules
  selected at the time when the first of their windows closes, and the stage compares that with the watermark.
- A rule may have been set aside, or have failed, for some events: the match stage names the panes, and their windows
  are incomplete. Such a window ends no alert, and begins one only where no further event could make its condition
  false.
- A window has as many groups of a rule as the limit says; further ones count in one group, `~other` (`group_limit`).
- What no rule uses is forgotten: at once where its rule has surely ended, after a while where it may not be known yet.
  The next checkpoint frees what rules that ended have left.
- A rule must not see totals of events from before it was known, because it has counted none of them. So totals are
  kept by the revision of the rules that matched them, and a rule sums those that know its selection.

Replay: a checkpoint names the oldest offset that an open window needs, the position that was judged, and the watermark
at that time. A new owner reads from the oldest needed offset and only merges until it has reached the position, many
records of a block at once; the last transition of each group comes from `window-state`. Then it is where the former
owner was. Transitions decided again have the same ids, and readers of `alerts` drop duplicates.

Why it is exact: partial rows are cumulative and replaced, so reading a record twice changes nothing; a gap between two
flushes is noticed and read again from the last checkpoint; ids are functions of what was decided.

Snapshots: that would be many records, so once what would be read again is 40 seconds old or has many rows, the arrays
of the stage are copied (`snapshot`, due by `reading_history`), written to `window-snapshots`, and named by a later
checkpoint. Whatever the windows' length, about a minute of records is read again at most. A snapshot is
what the records before its position come to, and nothing else: no rules, no alerts. A new owner takes it in place of
these records and reads on from there, as in any replay. Windows that the checkpoint's watermark has passed are closed
without being judged again: the former owner judged them and published what followed before it committed. A rule that
came to be known after rows of it makes earlier snapshots useless, because they do not say which of its windows were
judged.

Why that is exact too, wherever a process ends: until a checkpoint names a snapshot nobody reads it, and it is named
only after Kafka has all of it. A commit that fails leaves the former checkpoint with its own, older snapshot. An owner
that does not know yet that it has lost the partition cannot commit, so nobody reads what it writes. The id of a
snapshot is the digest of its content: whatever is found at its place is exactly what was written, or it is ignored, and
all records are read from the oldest needed offset, which the checkpoint names as before. After a gap that is done as
well, because what is missing may be older than the snapshot.
"""
