"""Calls that a type checker must refuse. Never run: type-checked only.

mypy and pyright report a `type: ignore` that is not needed, so each of these comments fails the
check once the error that it is for is no longer found.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import arkor_sync
from arkor_sync import (
    Callback,
    Callbacks,
    CheckpointContext,
    History,
    LogContext,
    Run,
    StartedContext,
    StructuredOutputs,
    ToolDefinition,
    Trainer,
    create_trainer,
    follow,
)


def log(ctx: LogContext) -> None: ...


def started(ctx: StartedContext) -> None: ...


def no_context() -> None: ...


def decorators(trainer: Trainer) -> None:
    trainer.on_started(log)  # type: ignore[type-var]
    trainer.on_log(started)  # type: ignore[type-var]
    trainer.on_checkpoint(log)  # type: ignore[type-var]
    trainer.on_completed(log)  # type: ignore[type-var]
    trainer.on_failed(log)  # type: ignore[type-var]
    trainer.on_cancelled(log)  # type: ignore[type-var]
    trainer.on_reconnect(log)  # type: ignore[type-var]
    trainer.on_end(log)  # type: ignore[type-var]
    trainer.on_log(no_context)  # type: ignore[type-var]
    trainer.on_logs(log)  # type: ignore[attr-defined]

    @trainer.on_checkpoint  # type: ignore[type-var]
    async def sample(ctx: LogContext) -> None: ...

    trainer.on_log(log)(3)  # type: ignore[arg-type]


class Mine(Callback):
    def on_log(self, ctx: StartedContext) -> None:  # type: ignore[override]
        ...

    def on_checkpoint(self) -> None:  # type: ignore[override]
        ...


Callbacks(on_started=log)  # type: ignore[arg-type]
Callbacks(on_log=started)  # type: ignore[arg-type]
Callbacks(on_checkpoint=log)  # type: ignore[arg-type]
Callbacks(on_completed=log)  # type: ignore[arg-type]
Callbacks(on_failed=log)  # type: ignore[arg-type]
Callbacks(on_cancelled=log)  # type: ignore[arg-type]
Callbacks(on_reconnect=log)  # type: ignore[arg-type]
Callbacks(on_end=log)  # type: ignore[arg-type]
Callbacks(on_log=lambda ctx: ctx.adapter)  # type: ignore[attr-defined]
Callbacks(on_logs=log)  # type: ignore[arg-type]

follow("j", callbacks=print)  # type: ignore[arg-type]
follow("j", callbacks=[print])  # type: ignore[list-item]
follow("j", callbacks=[[print]])  # type: ignore[list-item]
follow("j", callbacks=Mine)  # type: ignore[arg-type]
follow("j", callbacks="on_log")  # type: ignore[arg-type]
follow("j", callbacks={"on_log": 3})  # type: ignore[dict-item]
create_trainer(name="x", model="y", dataset={}, callbacks=[print])  # type: ignore[list-item]


def a_loss_may_be_none(ctx: LogContext) -> float:
    return ctx.loss  # type: ignore[return-value]


def a_step_is_a_number(ctx: CheckpointContext) -> str:
    return ctx.step  # type: ignore[return-value]


def after_a_run(run: Run, history: History) -> None:
    run.infer(5)  # type: ignore[arg-type]
    run.infer([], temprature=0)  # type: ignore[call-arg]
    history.best("loss", mode="lowest")  # type: ignore[arg-type]
    print(history.best("loss").step)  # type: ignore[union-attr]


print(arkor_sync.Misspelt)  # type: ignore[attr-defined]
create_trainer(name="x", model="y", dataset=5)  # type: ignore[arg-type]
two: StructuredOutputs = {"regex": "a", "choice": ["a"]}  # type: ignore[assignment]
none: StructuredOutputs = {"whitespace_pattern": " "}  # type: ignore[assignment]
bare: ToolDefinition = {"name": "f"}  # type: ignore[typeddict-item, typeddict-unknown-key]
