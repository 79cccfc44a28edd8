"""What the worker thread may ask of its run. Runs on the worker thread."""

from __future__ import annotations

from typing import Any


class RunControl:
    """What the worker asks of its run.

    Args:
        run: The run, when all but its worker is made.
    """

    def __init__(self, run: Any) -> None:
        self.redeliver = run._reader.redeliver
        self.finish_stop = run._settlement.finish_stop
        self.stop = run.stop
        self.cancel = run.cancel
        self.ending = run._ending
        self.settle = run._worker_done
