"""What has been counted in a block so far, as objects."""

import numpy as np

from services.evaluator.core.match.blocks import Block
from services.evaluator.core.records import Aggregate, RowKey
from tests.unit.evaluator.rows import to_rows


def rows_of(block: Block) -> dict[RowKey, Aggregate]:
    return dict(to_rows(block.rows.take(np.arange(len(block.rows)))))
