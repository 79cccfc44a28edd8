"""A handler of signals that raises once, until that is handled."""

from __future__ import annotations

import pytest

from arkor_sync._common.leaving import Leave


def test_it_raises_again_only_when_the_first_one_was_handled() -> None:
    leave = Leave()

    def interrupted_twice() -> None:
        try:
            leave(15, None)
        finally:
            leave(1, None)  # while the first is on its way

    with pytest.raises(SystemExit) as first:
        interrupted_twice()
    assert first.value.code == 143
    with pytest.raises(SystemExit) as second:
        leave(1, None)
    assert second.value.code == 129
