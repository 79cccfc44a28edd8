"""The metrics and checkpoints of a run so far, up to a limit. Pure.

The worker thread writes it; any thread may read it, also while the run goes on.
"""

from __future__ import annotations

import io
import os
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, List, Tuple, Union

from arkor_sync._common.files import write_atomically
from arkor_sync.stream.batches import COMMON, Delivery, EventBatch
from arkor_sync.stream.events import CHECKPOINT, LOG, METRICS, TrainingEvent, number, text

LIMIT = 10_000


class History:
    """The last logs and checkpoints of a run: `run.history`. Each is added before its callbacks.

    An event that is delivered again is kept once. Events of an earlier process are not kept.

    Args:
        limit: How many events are kept; older ones are dropped.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        # Logs that came together stay JSON text: many programs never read them.
        self._logs: Deque[Delivery] = deque()
        self._counted = 0  # the logs of all entries but the last, which may still grow
        self._checkpoints: Deque[int] = deque(maxlen=limit)

    def append(self, event: TrainingEvent) -> None:
        """Keep an event, if it is a log or a checkpoint. The worker calls it."""
        if event.type == LOG:
            self.append_logs(Delivery(EventBatch([event]), begun=1))
        elif event.type == CHECKPOINT:
            self._checkpoints.append(event.data["step"])

    def append_logs(self, delivery: Delivery) -> None:
        """Keep plain logs, each from when the worker, which calls it, begins to deliver it."""
        if self._logs:
            self._counted += self._logs[-1].begun
        self._logs.append(delivery)
        while self._counted - self._logs[0].begun >= self._limit:
            self._counted -= self._logs.popleft().begun

    def __len__(self) -> int:
        """How many logs it holds."""
        begun: int = sum(each.begun for each in _snapshot(self._logs))
        return min(self._limit, begun)

    def __repr__(self) -> str:
        return f"<History {len(self)} logs, {len(self.checkpoints)} checkpoints>"

    @property
    def logs(self) -> List[Dict[str, Any]]:
        """The fields of each log as the wire names them, in order; without `type` and `jobId`."""
        logs: List[Dict[str, Any]] = []
        for each in _snapshot(self._logs):
            fields = each.batch.plain_logs()
            if fields is None:  # nested too deeply for the stack of this caller
                fields = [event.data for event in each.batch]
            logs += map(_own, fields[: each.begun])
        return logs[max(0, len(logs) - self._limit) :]

    @property
    def checkpoints(self) -> List[int]:
        """The steps at which checkpoints were saved, in order."""
        return _snapshot(self._checkpoints)

    def metric(self, name: str) -> List[Tuple[int, float]]:
        """Return one metric over the steps, without the logs that do not have it.

        Args:
            name: `loss`, `eval_loss`, `learning_rate`, `epoch` or `samples_per_second`; or the
                wire's name of a field that is none of these.
        """
        field = METRICS.get(name, name)
        pairs = ((log["step"], number(log.get(field))) for log in self.logs)
        return [(step, value) for step, value in pairs if value is not None]

    def to_dicts(self) -> List[Dict[str, Any]]:
        """Return a row for each log: `timestamp`, `step` and the metrics, None where missing."""
        return [
            {
                "timestamp": text(log.get("timestamp")),
                **{name: number(log.get(field)) for name, field in METRICS.items()},
            }
            for log in self.logs
        ]

    def to_csv(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the rows of `to_dicts` as CSV, with a header; the file is replaced as a whole.

        Raises:
            OSError: It could not be written; an older file is untouched.
        """
        import csv  # only for those who want it

        table = io.StringIO()
        writer = csv.DictWriter(table, ["timestamp", *METRICS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_dicts())
        write_atomically(Path(path), table.getvalue(), 0o644)


def _own(log: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in log.items() if name not in COMMON}


def _snapshot(values: Deque[Any]) -> List[Any]:
    while True:
        try:
            return list(values)
        except RuntimeError:  # the worker appended meanwhile
            continue
