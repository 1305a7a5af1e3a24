"""Masking secrets in events before they are written to Kafka, and in notifications: each becomes `[redacted:NAME]`.

Way of a batch: its messages and the values of its attributes are joined in one buffer, which Hyperscan scans once for
all patterns (`secret_scanner`). Only texts that it proposes are searched again, one by one, with RE2, which knows where
a secret begins and ends (`text_masker`). Of events only columns with a masked text are built again (ingest's
`redactor`); events without a secret stay the very same columns. So do notifications (`text_redactor`). The value of an
attribute may also be a secret because of its key.

Nothing is missed: Hyperscan gets patterns that are read as trees and written again so that they match at least where
RE2 does (`hyperscan_patterns` of the domain); a pattern that cannot be read so is refused at the start. Very many
matches end the scan, and all texts from there on count as proposed: so what hostile texts cost is bounded.

Masks are borders: the parts of a text between them are searched on their own. So nothing is left that a pattern
matches, and masking twice changes nothing, whatever the patterns are: a text is searched until no pattern matches, and
a part in which matches go on appearing, which takes patterns with assertions, is masked as a whole.
"""
