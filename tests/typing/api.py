"""Calls of the public surface, as users write them. Never run: type-checked only."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, List, Literal, Optional, Sequence, Tuple

from flask import Flask

from arkor_sync import (
    Action,
    AdapterTarget,
    AnonymousCredentials,
    Arkor,
    Artifact,
    AuthMode,
    BaseModelTarget,
    Best,
    BlobDataset,
    Callback,
    Callbacks,
    CancelledContext,
    ChatEndpoint,
    ChatMessage,
    ChatResponse,
    CheckpointContext,
    CloudApiClient,
    Comparison,
    CompletedContext,
    Context,
    DatasetSplit,
    Deployment,
    DeploymentKey,
    DeploymentTarget,
    ErrorPolicy,
    FailedContext,
    Failure,
    Follower,
    History,
    HuggingFaceDataset,
    IssuedKey,
    JobStatus,
    LogContext,
    LoraConfig,
    OAuthCredentials,
    Ratio,
    ReconnectContext,
    ReconnectPolicy,
    Redeliver,
    RedisCursorStore,
    Rehearsal,
    ResponseFormat,
    Run,
    RunHealth,
    Skip,
    SQLCursorStore,
    StartedContext,
    Steps,
    StopTraining,
    StructuredOutputs,
    Submission,
    TokenCredentials,
    ToolCall,
    ToolDefinition,
    Trainer,
    TrainingJob,
    TrainingResult,
    UnknownTarget,
    Usage,
    create_arkor,
    create_trainer,
    exit_on,
    follow,
    load_project,
    recover_submissions,
    run_tools,
    settle_submission,
    submit,
)
from arkor_sync.cloud.training_data import ChatRecord, Message, Role
from arkor_sync.contrib.celery import (
    beat_schedule,
    make_follow_all_task,
    make_follow_task,
    make_submit_task,
)
from arkor_sync.contrib.django import DjangoCursorStore, follow_now, using_arkor
from arkor_sync.contrib.django import submit as submit_in_django
from arkor_sync.contrib.flask import Arkor as FlaskArkor
from arkor_sync.contrib.flask import add_models
from arkor_sync.credentials import sign_in, sign_in_anonymously, sign_out
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import EarlyStopping, NotebookPlot, SlackNotifier
from arkor_sync.project import ProjectState, use_project
from arkor_sync.stores import LeasedStore

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
        retry_in: Optional[float] = health.retry_in
        step: Optional[int] = health.step
        print(retry_in, step)


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


slack = SlackNotifier("", on=("checkpoint", "error"), prompts=["hi"], flush_timeout=2)
with SlackNotifier("", on="error").watching(name="nightly"), slack.watching():
    trainer.wait(60).raise_for_status()


@slack.watching(name="main")
def main(arguments: List[str]) -> int:
    return len(arguments)


code: int = main(["--cloud"])
trainer.on_end(lambda ctx: ctx.result)
trainer.on_log(print)
every: Callable[[Context], None] = trainer.on_log(trainer.on_started(lambda ctx: print(ctx.job)))


def it_is_unchanged(ctx: FailedContext) -> int:
    return also(ctx, prefix="again")


manifest: Arkor = create_arkor(trainer=trainer)
loaded: Optional[Trainer] = load_project("trainer.py:bot", cwd=Path("bots")).trainer
rehearsed: Rehearsal = trainer.rehearse(10, model=Path("tiny"))
job: TrainingJob = trainer.start()
run: Run = trainer.follow()
with exit_on(), exit_on(signal.SIGTERM, signal.SIGHUP), trainer.follow() as entered:
    entered.wait()
result: TrainingResult = trainer.wait(timeout=3600).raise_for_status()
status: str = result.status

HELLO = [{"role": "user", "content": "hi"}]
final: ChatResponse = result.infer(HELLO, temperature=0, max_tokens=60)
best: Optional[Best] = run.history.best("eval_loss", mode="min")
table: str = run.history.csv_text()
if best is not None:
    at_best: Optional[str] = run.infer(HELLO, step=best.checkpoint, stream=False).content()
    by_id: ChatResponse = run.client.chat(HELLO, job="job-1", step=best.checkpoint)
    by_job: ChatResponse = run.client.chat(HELLO, job=result.job)
compared: Comparison = History.compare({"a": run.history, "b": result.history}, "eval_loss")
compared.save("compared.svg", theme="dark")
print(compared, compared.svg(), compared.to_dicts()[0]["best"])
ended: List[TrainingJob] = run.client.jobs.list(status=["failed", "cancelled"], name="a")
going: List[TrainingJob] = run.client.jobs.list(status="running")

patient = CloudApiClient(retry="all")
deployed: Deployment = patient.deployments.create(
    "support-bot", target=AdapterTarget.final(job), auth_mode=AuthMode.FIXED_API_KEY, retention=30
)
listed: List[Deployment] = patient.deployments.list()
read: Deployment = patient.deployments.get(deployed.id)
deployed_at: Optional[str] = patient.deployments.endpoint_url(read.slug)
patient.deployments.update(read.id, target=AdapterTarget.checkpoint("job-1", 20))
patient.deployments.update(read.id, auth_mode="none", enabled=False, retention="unlimited")
patient.deployments.update(read.id, target=BaseModelTarget("unsloth/gemma-4-E4B-it"))
served: DeploymentTarget = read.target
if isinstance(served, AdapterTarget):
    served_step: Optional[int] = served.step
elif isinstance(served, UnknownTarget):
    print(served.kind, served.extra)
issued: IssuedKey = patient.deployments.keys.create(read.id, "ci")
plaintext: str = issued.plaintext
known_keys: List[DeploymentKey] = patient.deployments.keys.list(read.id)
patient.deployments.keys.revoke(read.id, known_keys[0].id)
patient.deployments.delete(read.id)
in_org = patient.projects.list("my-org")
org_slug: object = in_org.org["slug"]

with follow(
    job.id,
    client=CloudApiClient("https://api.example.com", TokenCredentials("t")),
    callbacks=Mine(),
    error_policy=ErrorPolicy.reconnect(attempts=3, then=Action.LOG),
) as attached:
    attached.add_done_callback(lambda run: print(run.done()))
    again: TrainingResult = attached.result(10)

with Emulator(speed=10) as emulator:
    local: CloudApiClient = emulator.client(timeout=(5.0, 30.0))
    variables: Dict[str, str] = emulator.environment()

blob = BlobDataset("https://example.com/data.jsonl", token="secret")

mine: List[Mine] = [Mine()]
follow("j", callbacks=mine)
redis_store = RedisCursorStore("redis://host", ttl=5, prefix="mine", max_connections=2)
follow("j", callbacks=mine, cursor_store=redis_store)
follow("j", callbacks=(each for each in mine))
follow("j", callbacks={"on_log": log, "on_failed": failed})
follow("j", callbacks=[Mine(), None, {"on_log": log}, Callbacks(on_failed=failed), [Mine()]])
follow("j", callbacks=[NotebookPlot(every=0.5, timeout=5), Mine()])


def callbacks_of(job_id: str) -> Callbacks:
    return Callbacks(on_log=log, on_end=lambda ctx: print(job_id, ctx.error))


def follow_many(shared: LeasedStore) -> None:
    with Follower(lambda: ["j"], callbacks_of, store=shared, max_runs=100, poll=1) as many:
        followed: Dict[str, Run] = many.runs
        nobody: Tuple[str, ...] = many.status().not_followed
        print(followed, nobody)
    Follower(["j"], [Mine()], store=shared, client=local).run()
    Follower({"j": 1}.keys(), {"on_log": log}, store=shared).start().close(10)


own = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}]
for dataset in (Path("data.jsonl"), "data.jsonl", blob, own, blob.to_dict()):
    create_trainer(
        name="n",
        model="unsloth/gemma-4-E4B-it",
        dataset=dataset,
        eval_steps=10,
        dataset_split=DatasetSplit(test_size=0.1, seed=42),
        dataset_format={"type": "chatml"},
    )
model: str = "a model that is newer than this version"
create_trainer(name="n", model=model, dataset=own, dataset_split={"enabled": True})
typed: List[ChatRecord] = [{"messages": [{"role": "user", "content": "hi"}]}]
create_trainer(name="n", model=model, dataset=typed, dataset_format="chatml")

if job.status == JobStatus.RUNNING or job.status == "running" or job.status == "a new status":
    print(result.status == "completed", result.status == JobStatus.COMPLETED)
kind: Literal["anon", "oauth"] = OAuthCredentials.mode if run.done() else AnonymousCredentials.mode
role: Role = "assistant"
question: Message = {"role": "user", "content": "hi"}
attached.health().state.upper()
CloudApiClient().chat([question], base_model=model)
CloudApiClient().chat([{"role": "user", "content": "hi"}], base_model=model)
EarlyStopping("eval_loss", mode="max")

tool: ToolDefinition = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}, "strict": False},
}
plain_tool = {"type": "function", "function": {"name": "weather"}}
form: ResponseFormat = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
plain_form: ResponseFormat = {"type": "json_object"}
constraint: StructuredOutputs = {"choice": ["yes", "no"], "disable_any_whitespace": True}
conversation: List[ChatMessage] = [{"role": "user", "content": "hi"}]
asked: ChatResponse = run.infer(conversation, tools=[tool], tool_choice="required")
calls: List[ToolCall] = asked.tool_calls()
names: List[str] = [call["function"]["name"] for call in calls]
conversation.append(asked.message())
conversation.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": "rain"})
usage: Optional[Usage] = asked.usage
if usage is not None:
    total: int = usage["total_tokens"]
run.infer("hi", tools=[plain_tool], response_format={"type": "text"})
run.infer("hi", response_format=form, structured_outputs=None)
CloudApiClient().chat("hi", base_model=model, structured_outputs=constraint)
CloudApiClient().chat("hi", base_model=model, structured_outputs={"regex": "a+"})

endpoint = ChatEndpoint("https://support-bot.arkor.app/v1", "key", model="m", timeout=(5, 60))
endpoint.chat(conversation, response_format=plain_form, model="other").content()


def weather(city: str) -> Dict[str, str]:
    return {city: "rain"}


def chat_with_tools(ctx: CheckpointContext) -> Optional[str]:
    for chat in (ctx.infer, run.infer, result.infer, endpoint.chat):
        run_tools(chat, "hi", {"weather": weather}, tools=[plain_tool])
    answer, messages = run_tools(
        run.client.chat, "hi", {"weather": weather}, tools=[tool], max_rounds=3, job="job-1"
    )
    conversation.extend(messages)
    return answer.content()


signed_in: OAuthCredentials = sign_in(open_browser=False, on_url=print, timeout=60)
nameless: AnonymousCredentials = sign_in_anonymously(path=Path("credentials.json"))
state: ProjectState = use_project(CloudApiClient(credentials=signed_in), "org", "project")
was_signed_in: bool = sign_out()

sql_store = SQLCursorStore("sqlite:////var/lib/store.db", ttl=15, max_connections=4, schema=None)
sql_store.create_tables()
follow("job-1", cursor_store=sql_store, around=sql_store.transaction, lease_wait=20)
with sql_store.transaction(), sql_store.joining(sql_store.connection()):
    pass


def trainer_for(order: str, steps: int) -> Trainer:
    return create_trainer(name=order, model=model, dataset=HuggingFaceDataset("d"), max_steps=steps)


celery_app = object()
follow_task = make_follow_task(celery_app, callbacks=mine, store=redis_store, slice=None)
make_follow_task(celery_app, callbacks=lambda job_id: mine, store=redis_store, rate_limit="1/s")
make_follow_all_task(celery_app, follow_task, lambda: ["job-1"], store=redis_store)
make_submit_task(celery_app, trainer_for, store=redis_store, follow_task=follow_task)
entries: Dict[str, object] = beat_schedule(every=30)


def submit_once(store: LeasedStore, client: CloudApiClient) -> Optional[str]:
    bought: Submission = submit(trainer, key="order-17", store=store, timeout=5)
    pruned: int = store.prune(days=30)
    assert pruned >= 0
    others: Sequence[str] = bought.others
    settled: List[Submission] = recover_submissions(
        store, client, trainer_for={"order-18": trainer}.get
    )
    for each in settled:
        if each.status == "unknown":
            settle_submission(store, each.key, None if not others else others[0])
    return bought.job_id


def submit_in_a_site() -> None:
    run = submit_in_django(key="order-17", name="bot", model="unsloth/gemma-4-E4B-it")
    store: LeasedStore = DjangoCursorStore("default", ttl=30.0)
    with using_arkor(Emulator()):
        print(follow_now(run, timeout=5).status, store.members())


def in_flask(app: Flask, db: object) -> List[str]:
    extension = FlaskArkor(app)
    bought: Submission = extension.submit(trainer, key="order-17")
    extension.submit(key="order-18", name="n", model="m", dataset=own)
    extension.follow("job-1", Callbacks(on_log=print), error_policy=ErrorPolicy.log()).wait()
    extension.follower(lambda: ["job-1"], max_runs=10).run()
    app.register_blueprint(extension.blueprint(), url_prefix="/arkor")
    print(extension.client, extension.store, add_models(db).Submission)
    return [each.key for each in extension.recover({"order-17": trainer}.get)] + [bought.key]
