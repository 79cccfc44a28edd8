"""`demo`: train a small model here, and talk to it. Runs on the caller's thread."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Dict, List

from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.contexts import CheckpointContext, LogContext
    from arkor_sync.result import TrainingResult
    from arkor_sync.trainer import Trainer

_STEPS = 30
_RATE = 4e-6  # the loss falls slowly enough for the checkpoints to differ
_QUESTION = "I was charged twice, and I cancelled last week."


@command(root, "demo", examples="arkor-sync demo\narkor-sync demo --json")
def demo(output: Output) -> ExitCode:
    """Train a small model on this machine, and ask it a question.

    It starts a local Arkor, trains on a bundled sample of requests to a support desk, and asks two
    checkpoints and the final model the same question. It takes seconds, needs no account and no
    network, and leaves nothing behind: what it trains is a small model of characters, which shows
    how a job goes, and not what a language model can do.
    """
    from arkor_sync.cli.following import exit_code
    from arkor_sync.emulator import Emulator

    with Emulator() as arkor:
        shown = _Shown(output)
        result = _train(shown.trainer(arkor.client()))
        shown.end(result)
    return exit_code(result)


class _Shown:
    """Shows what happens, and keeps it for `--json`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._losses: List[Dict[str, Any]] = []
        self._answers: List[Dict[str, Any]] = []

    def trainer(self, client: Any) -> Trainer:
        """Describe the training. Its callbacks are methods of this object."""
        from arkor_sync.cloud.models import HuggingFaceDataset
        from arkor_sync.contexts import Callbacks
        from arkor_sync.emulator.engine.sample import NAME
        from arkor_sync.stream.error_policy import Action, ErrorPolicy
        from arkor_sync.trainer import create_trainer

        return create_trainer(
            name="demo",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset(NAME),
            max_steps=_STEPS,
            logging_steps=5,
            save_steps=10,
            learning_rate=_RATE,
            callbacks=Callbacks(on_log=self.on_log, on_checkpoint=self.on_checkpoint),
            error_policy=ErrorPolicy(otherwise=Action.CANCEL),
            client=client,
        )

    def on_log(self, ctx: LogContext) -> None:
        """Show the loss."""
        self._losses.append({"step": ctx.step, "loss": ctx.loss})
        loss = ctx.loss or 0.0
        self._say(f"  step {ctx.step:3d}   loss {loss:6.3f}   {'#' * round(10 * loss)}")

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Ask a checkpoint."""
        if ctx.step < _STEPS:
            self._ask(ctx, ctx.step, f"checkpoint {ctx.step}")

    def end(self, result: TrainingResult) -> None:
        """Ask the final model, and show how the job ended."""
        result.raise_for_status()
        self._ask(result, None, "the final model")
        self._say(str(result))
        self._say("`arkor-sync init` makes a project of your own.")
        if self._output.as_json:
            job = {"status": result.status, "losses": self._losses, "answers": self._answers}
            self._output.json({**job, "question": _QUESTION})

    def _ask(self, source: Any, step: Any, name: str) -> None:
        messages = [{"role": "user", "content": _QUESTION}]
        answer = source.infer(messages, temperature=0, max_tokens=80, stream=False).content()
        self._answers.append({"step": step, "answer": answer})
        self._say(f"\n  {name} is asked: {_QUESTION}\n  it answers: {answer}\n")

    def _say(self, text: str) -> None:
        if not self._output.as_json:
            self._output.line(text)


def _train(trainer: Trainer) -> TrainingResult:
    from arkor_sync.errors import WaitTimeout

    ended = threading.Event()
    run = trainer.follow()
    try:
        with contextlib.suppress(WaitTimeout):
            run.wait(0)  # from now on somebody waits: an error of the run is told here
        run.add_done_callback(lambda _: ended.set())
        ended.wait()  # a Ctrl-C in run.wait() would say that the job goes on
        return run.wait()
    except BaseException:  # Ctrl-C, SIGTERM, the output was closed
        with contextlib.suppress(Exception):
            run.stop("the demo was left")  # its cloud is about to end
        raise
