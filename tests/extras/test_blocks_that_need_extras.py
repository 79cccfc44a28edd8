"""The blocks of the READMEs that need an extra; tests/package/test_readme.py runs the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.extras import need_extra
from support.readme_blocks import BLOCKS, Block, run

WITH_EXTRAS = [block for block in BLOCKS if block.extras]


def test_there_are_some() -> None:
    assert WITH_EXTRAS


@pytest.mark.parametrize("block", WITH_EXTRAS, ids=[block.place for block in WITH_EXTRAS])
def test_a_block_runs_as_pasted_where_its_extras_are(block: Block, tmp_path: Path) -> None:
    for extra in block.extras:
        need_extra(extra)
    run(block, tmp_path, strict=False)  # what a library warns of is its own business
