"""Calls of the public surface, as users write them. Never run: type-checked only."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, List, Optional

from arkor_sync import (
    Action,
    Artifact,
    Best,
    BlobDataset,
    Callback,
    Callbacks,
    CancelledContext,
    ChatResponse,
    CheckpointContext,
    CloudApiClient,
    Comparison,
    CompletedContext,
    Context,
    ErrorPolicy,
    FailedContext,
    Failure,
    History,
    HuggingFaceDataset,
    LogContext,
    LoraConfig,
    Ratio,
    ReconnectContext,
    ReconnectPolicy,
    Redeliver,
    Run,
    RunHealth,
    Skip,
    StartedContext,
    Steps,
    StopTraining,
    TokenCredentials,
    Trainer,
    TrainingJob,
    TrainingResult,
    create_trainer,
    follow,
)
from arkor_sync.handlers import NotebookPlot

pool = ThreadPoolExecutor()


def log(ctx: LogContext) -> None:
    loss: Optional[float] = ctx.loss
    step: int = ctx.step
    job: TrainingJob = ctx.job
    if loss is not None and loss > 10:
        raise StopTraining(f"diverged at {step} of {job.name}")


async def sample(ctx: CheckpointContext) -> None:
    answer: ChatResponse = ctx.infer([{"role": "user", "content": "hi"}], temperature=0)
    text: Optional[str] = answer.content()
    for piece in answer:
        print(text, piece, end="")
    ctx.infer([{"role": "user", "content": "hi"}], step=ctx.step - 25, stream=False).content()


def notify(ctx: CompletedContext) -> Future[None]:
    final: Optional[float] = ctx.metrics.final_loss
    artifacts: List[Artifact] = ctx.artifacts
    print([artifact.get("pathname") for artifact in artifacts])
    return pool.submit(print, final, artifacts)


def failed(ctx: FailedContext) -> None:
    error: str = ctx.error
    raise Redeliver(delay=5) if error else Skip()


class Mine(Callback):
    def on_started(self, ctx: StartedContext) -> None:
        ctx.run.abort("enough")

    def on_cancelled(self, ctx: CancelledContext) -> None:
        health: RunHealth = ctx.run.health()
        print(health.queue_depth)


def hopeless(failure: Failure) -> bool:
    return failure.attempt > 2


policy: ErrorPolicy = (
    ErrorPolicy(dead_letter=print)
    .on(ConnectionError, TimeoutError, do=Action.RETRY, attempts=4, then=Action.LOG)
    .on(ValueError, callbacks=("on_log",), do=Action.LOG)
    .on(do=Action.CANCEL, when=hopeless)
)

trainer: Trainer = create_trainer(
    name="support-bot-v1",
    model="unsloth/gemma-4-E4B-it",
    dataset=HuggingFaceDataset("arkorlab/triage-demo", split="train"),
    lora=LoraConfig(r=16, alpha=16, max_length=2048, load_in_4bit=True),
    max_steps=100,
    warmup_steps=Ratio(0.1),
    logging_steps=5,
    save_steps=Steps(25),
    callbacks=[Callbacks(on_log=log, on_checkpoint=sample, on_completed=notify), Mine()],
    error_policy=policy,
    reconnect=ReconnectPolicy(max_attempts=20),
    abort_event=threading.Event(),
)


@trainer.on_failed
def also(ctx: FailedContext, prefix: str = "") -> int:
    return print(prefix, ctx.step) or 0


@trainer.on_reconnect
async def lost(ctx: ReconnectContext) -> None:
    print(ctx.error)


trainer.on_end(lambda ctx: ctx.result)
trainer.on_log(print)
every: Callable[[Context], None] = trainer.on_log(trainer.on_started(lambda ctx: print(ctx.job)))


def it_is_unchanged(ctx: FailedContext) -> int:
    return also(ctx, prefix="again")


job: TrainingJob = trainer.start()
run: Run = trainer.follow()
result: TrainingResult = trainer.wait(timeout=3600).raise_for_status()
status: str = result.status

HELLO = [{"role": "user", "content": "hi"}]
final: ChatResponse = result.infer(HELLO, temperature=0, max_tokens=60)
best: Optional[Best] = run.history.best("eval_loss", mode="min")
if best is not None:
    at_best: Optional[str] = run.infer(HELLO, step=best.checkpoint, stream=False).content()
    by_id: ChatResponse = run.client.chat(HELLO, job="job-1", step=best.checkpoint)
    by_job: ChatResponse = run.client.chat(HELLO, job=result.job)
compared: Comparison = History.compare({"a": run.history, "b": result.history}, "eval_loss")
compared.save("compared.svg", theme="dark")
print(compared, compared.svg(), compared.to_dicts()[0]["best"])
ended: List[TrainingJob] = run.client.jobs.list(status=["failed", "cancelled"], name="a")
going: List[TrainingJob] = run.client.jobs.list(status="running")

with follow(
    job.id,
    client=CloudApiClient("https://api.example.com", TokenCredentials("t")),
    callbacks=Mine(),
    error_policy=ErrorPolicy.reconnect(attempts=3, then=Action.LOG),
) as attached:
    attached.add_done_callback(lambda run: print(run.done()))
    again: TrainingResult = attached.result(10)

blob = BlobDataset("https://example.com/data.jsonl", token="secret")

mine: List[Mine] = [Mine()]
follow("j", callbacks=mine)
follow("j", callbacks=(each for each in mine))
follow("j", callbacks={"on_log": log, "on_failed": failed})
follow("j", callbacks=[Mine(), None, {"on_log": log}, Callbacks(on_failed=failed), [Mine()]])
follow("j", callbacks=[NotebookPlot(every=0.5, timeout=5), Mine()])
