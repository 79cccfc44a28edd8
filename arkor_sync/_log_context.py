"""Contexts of logs whose metrics are read from the JSON when a callback asks for them. Pure.

Almost every callback reads the step and the loss, so these are plain attributes; the other metrics
and the event are made when they are asked for, because thousands of logs may come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Type, TypeVar

from arkor_sync.stream.batches import Batch
from arkor_sync.stream.events import METRICS, number

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

C = TypeVar("C")


class _Metric:
    """A metric of a log: read from its fields when it is asked for, unless it was set."""

    def __init__(self, field: str) -> None:
        self._field = field

    def __get__(self, ctx: Any, owner: Any) -> Any:
        if ctx is None:
            return None
        value = ctx._data.get(self._field)
        return value if type(value) is float or type(value) is int else None


class _Event:
    """The event of a log: built when it is asked for, unless it was set."""

    def __get__(self, ctx: Any, owner: Any) -> Any:
        if ctx is None or ctx._batch is None:
            return None
        ctx.event = event = ctx._batch[ctx._index]
        return event


def read_when_asked(cls: Type[C]) -> Type[C]:
    """Have a context class, a dataclass of `METRICS`, read its metrics and event when asked for."""
    for name in METRICS.keys() - {"step", "loss"}:
        setattr(cls, name, _Metric(METRICS[name]))
    cls.step = cls.loss = None  # type: ignore[attr-defined]  # set at once by `log_contexts`
    cls.event = _Event()  # type: ignore[attr-defined]
    cls._batch = None  # type: ignore[attr-defined]
    return cls


def log_contexts(
    cls: Type[C], batch: Batch, logs: List[Dict[str, Any]], job: TrainingJob, run: Any
) -> Iterator[C]:
    """Build the contexts of many logs.

    Args:
        cls: What `read_when_asked` returned.
        batch: The logs.
        logs: The fields of each, as `batch.plain_logs()` returned them.
        job: The job as of these logs.
        run: The run.
    """
    new = cls.__new__
    for index, data in enumerate(logs):
        ctx: Any = new(cls)
        loss = data.get("loss")
        ctx.step = data["step"]
        ctx.loss = loss if type(loss) is float else number(loss)
        ctx._data = data
        ctx._batch = batch
        ctx._index = index
        ctx.job = job
        ctx.run = run
        yield ctx
