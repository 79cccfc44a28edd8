"""The metrics and checkpoints of a run so far, up to a limit. Pure.

The worker thread writes it; any thread may read it, also while the run goes on.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Literal, Mapping, Optional, Tuple, Union

from arkor_sync._common.arguments import check, is_number, refusal
from arkor_sync._common.files import write_atomically
from arkor_sync._common.text import counted, safe_cell
from arkor_sync.stream.batches import COMMON, Batch, Delivery, EventBatch, LogBatch
from arkor_sync.stream.events import CHECKPOINT, LOG, METRICS, TrainingEvent, number, text

if TYPE_CHECKING:
    from arkor_sync.comparison import Comparison

LIMIT = 10_000
MAX_HISTORY_BYTES = 32 << 20

# A log with no more text, with few fields and nothing nested in them takes less than this memory.
_SMALL_TEXT, _SMALL_FIELDS, _SMALL_BYTES = 512, 16, 3 << 10
_MOST_BYTES_PER_CHARACTER = 32  # of any other log, once it is decoded: `[],` is an object
_NESTED = {list, dict}


@dataclasses.dataclass(frozen=True)
class Best:
    """The best value of a metric in a history, and the checkpoint to it: `history.best`.

    Attributes:
        step: The step of the value.
        value: The value.
        checkpoint: The checkpoint at this step, else the one nearest to it; of two as near the
            earlier. It is what `infer(step=...)` takes. None if the history has no checkpoint;
            `infer(step=None)` asks the final model, which may be far from this value. For
            checkpoints, give `save_steps` to the trainer.
    """

    step: int
    value: float
    checkpoint: Optional[int]


class History:
    """The last logs and checkpoints of a run: `run.history`. Each is added before its callbacks.

    An event that is delivered again is kept once. Events of an earlier process are not kept.

    Args:
        limit: How many events are kept; older ones are dropped.
        max_bytes: How much memory the logs may take. What the worker delivers at this moment is
            there in any case.
    """

    def __init__(self, limit: int = LIMIT, max_bytes: float = MAX_HISTORY_BYTES) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        # Logs that came together stay JSON text: many programs never read them.
        self._logs: Deque[Delivery] = deque()
        self._grows = False  # whether the last entry is still being delivered
        # Of all entries but such a one: the logs, and the memory of each.
        self._counted = 0
        self._sizes: Deque[int] = deque()
        self._bytes = 0
        self._checkpoints: Deque[int] = deque(maxlen=limit)

    def append(self, event: TrainingEvent) -> None:
        """Keep an event, if it is a log or a checkpoint. The worker calls it."""
        if event.type == LOG:
            self.append_logs(Delivery(EventBatch([event]), begun=1))
        elif event.type == CHECKPOINT:
            self._checkpoints.append(event.data["step"])

    def append_logs(self, delivery: Delivery) -> None:
        """Keep plain logs, each from when the worker, which calls it, begins to deliver it."""
        self.close_logs()
        self._logs.append(delivery)
        self._grows = True
        while (
            self._counted - self._logs[0].begun >= self._limit or self._bytes > self._max_bytes
        ) and self._sizes:
            self._counted -= self._logs.popleft().begun
            self._bytes -= self._sizes.popleft()

    def close_logs(self) -> None:
        """Count the last entry, which does not grow any more.

        The worker calls it when it has delivered something: it then waits for the next event, so
        that no callback waits for this.
        """
        if not self._grows:
            return
        self._grows = False
        last = self._logs[-1]
        self._counted += last.begun
        batch = last.batch if last.begun == len(last.batch) else last.batch[: last.begun]
        batch, size = _compact(batch)
        if batch is not last.batch:
            self._logs[-1] = Delivery(batch, begun=last.begun)
        self._sizes.append(size)
        self._bytes += size

    def __len__(self) -> int:
        """How many logs it holds."""
        begun: int = sum(each.begun for each in _snapshot(self._logs))
        return min(self._limit, begun)

    def __repr__(self) -> str:
        checkpoints = counted(len(self.checkpoints), "checkpoint")
        return f"<History {counted(len(self), 'log')}, {checkpoints}>"

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
        return _values(self.logs, name)

    def best(self, metric: str, mode: Literal["min", "max"] = "min") -> Optional[Best]:
        """Find the best value of a metric, and the checkpoint nearest to it.

        `run.infer(messages, step=run.history.best("eval_loss").checkpoint)` chats with the best
        checkpoint.

        Args:
            metric: Its name, as `metric` takes it.
            mode: `min` if the lowest value is the best, `max` if the highest is.

        Returns:
            The first of the best values; infinity and NaN are never best. None if no log has the
            metric: it is one of the names that `metric` lists and did not come, such as an
            `eval_loss` before the first evaluation, or there are no logs yet.

        Raises:
            ArkorUsageError: The history has logs, no log has the metric, and it is none of the
                names that `metric` lists: it may be misspelt. Or `mode` cannot work.
        """
        logs = self.logs
        _check_metric(metric, mode, logs)
        return _best(_values(logs, metric), mode, self.checkpoints)

    @staticmethod
    def compare(
        histories: Mapping[str, History],
        metric: str = "loss",
        mode: Literal["min", "max"] = "min",
    ) -> Comparison:
        """Compare one metric of several runs: `print(History.compare({"a": run.history, ...}))`.

        Args:
            histories: The history of each run, by the name that is shown for it.
            metric: Its name, as `metric` takes it.
            mode: `min` if the lowest value is the best, `max` if the highest is.

        Returns:
            A table and a chart of the runs, as they are now.

        Raises:
            ArkorUsageError: No run has a metric of this name, or an argument cannot work.
        """
        from arkor_sync.comparison import ComparedRun, Comparison  # only for those who want it

        is_mapping = isinstance(histories, Mapping) and bool(histories)
        fits = is_mapping and all(isinstance(each, History) for each in histories.values())
        check("histories", histories, fits, "a mapping such as {'a name': run.history}")
        logs = {name: each.logs for name, each in histories.items()}
        _check_metric(metric, mode, [log for each in logs.values() for log in each])
        runs = []
        for name, history in histories.items():
            values = _values(logs[name], metric)
            best = _best(values, mode, history.checkpoints)
            runs.append(
                ComparedRun(
                    name=str(name),
                    steps=max((log["step"] for log in logs[name]), default=None),
                    last=values[-1][1] if values else None,
                    best=None if best is None else best.value,
                    best_step=None if best is None else best.step,
                    checkpoint=None if best is None else best.checkpoint,
                    values=tuple(values),
                )
            )
        return Comparison(metric, mode, tuple(runs))

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
        write_atomically(Path(path), self.csv_text(), 0o644)

    def csv_text(self) -> str:
        """Return the rows of `to_dicts` as CSV, with a header."""
        import csv  # only for those who want it

        table = io.StringIO()
        writer = csv.DictWriter(table, ["timestamp", *METRICS], lineterminator="\n")
        writer.writeheader()
        for row in self.to_dicts():
            writer.writerow({name: safe_cell(value) for name, value in row.items()})
        return table.getvalue()

    def _repr_html_(self) -> str:
        """Show the curve in a notebook, and a table of the logs."""
        from arkor_sync.render.html import history_html  # only for notebooks

        return history_html(self.logs, self.checkpoints)


def _values(logs: List[Dict[str, Any]], name: str) -> List[Tuple[int, float]]:
    field = METRICS.get(name, name)
    pairs = ((log["step"], number(log.get(field))) for log in logs)
    return [(step, value) for step, value in pairs if value is not None]


def _check_metric(metric: str, mode: str, logs: List[Dict[str, Any]]) -> None:
    """Refuse a metric that no log has and that is none of the usual ones: a typing error."""
    check("mode", mode, mode in ("min", "max"), "'min' or 'max'")
    if metric in METRICS or not logs or _values(logs, metric):
        return
    fields = {field for log in logs for field in log if number(log[field]) is not None}
    usual = [name for name, field in METRICS.items() if field in fields and name != "step"]
    others = sorted(fields - set(METRICS.values()))
    raise refusal("metric", metric, f"one that the history has: {', '.join([*usual, *others])}")


def _best(values: List[Tuple[int, float]], mode: str, checkpoints: List[int]) -> Optional[Best]:
    finite = [(step, value) for step, value in values if is_number(value)]
    if not finite:
        return None
    step, value = (min if mode == "min" else max)(finite, key=lambda pair: pair[1])
    nearest = min(checkpoints, key=lambda saved: (abs(saved - step), saved), default=None)
    return Best(step, value, nearest)


def _compact(batch: Batch) -> Tuple[Batch, int]:
    """Return a batch of logs in a form that takes little memory, and how many bytes it takes."""
    if isinstance(batch, LogBatch):
        return batch, batch.compact()
    if all(map(_is_small, batch)):
        return batch, _SMALL_BYTES * len(batch)
    try:
        texts = [json.dumps(event.data, ensure_ascii=False, allow_nan=False) for event in batch]
    except (ValueError, RecursionError):  # it holds 1e400, or is nested too deeply
        return batch, batch.size * _MOST_BYTES_PER_CHARACTER + _SMALL_BYTES * len(batch)
    packed = LogBatch("{", [""] * len(texts), [text[1:] for text in texts])
    return packed, packed.compact()


def _is_small(event: TrainingEvent) -> bool:
    data = event.data
    if event.size > _SMALL_TEXT or len(data) > _SMALL_FIELDS:
        return False
    return _NESTED.isdisjoint(map(type, data.values()))


def _own(log: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in log.items() if name not in COMMON}


def _snapshot(values: Deque[Any]) -> List[Any]:
    while True:
        try:
            return list(values)
        except RuntimeError:  # the worker appended meanwhile
            continue
