"""Asks every checkpoint the same prompts, and scores the answers. Runs on a thread of its own.

The callback methods run on the run's worker thread, which waits for the pool of threads that ask.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from arkor_sync._common.arguments import check, is_number
from arkor_sync._common.clock import Clock
from arkor_sync._common.files import write_atomically
from arkor_sync._common.json import parse_json
from arkor_sync._common.log import get_logger
from arkor_sync.cloud.chat_request import as_messages, build_chat_body
from arkor_sync.contexts import CheckpointContext, Context, EndContext, LogContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.exceptions import describe_error
from arkor_sync.handlers._shared.single_run_callback import SingleRunCallback, try_to_stop
from arkor_sync.handlers.evaluation.answers import (
    EvaluationRow,
    answer_or_error,
    as_csv,
    as_dicts,
    as_text,
    by_step,
    mean,
)
from arkor_sync.handlers.evaluation.schema import answer_format
from arkor_sync.handlers.evaluation.worker_pool import WorkerPool
from arkor_sync.render.text import one_line

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = get_logger("arkor_sync.handlers")

Prompt = Union[str, Sequence[Mapping[str, Any]]]
_MAX_SHOWN = 3  # answers in a message to the notifier
_MAX_SAVED = 200_000  # characters of the table that are saved for a restart
_CONNECT = 10.0  # seconds that a prompt may take in addition to its timeout


class CheckpointEvaluator(SingleRunCallback):
    """Asks each checkpoint all prompts, and keeps a table of the answers.

    The prompts of a checkpoint are asked several at a time, on daemon threads that end after the
    last answer, or with the run. The callback methods run on the worker thread; the next callback
    waits for the answers, but `abort()` does not. A prompt that gets no answer has an error in its
    row, and no other effect. One object serves one run at a time. Its table is saved with the run's
    cursor; of a long table, only the best checkpoint and the latest ones are saved. A checkpoint
    that is in the table is not asked again.

    Args:
        prompts: Texts, or lists of messages.
        expected: The right answer for each prompt, for the scorer.
        scorer: A function of the answer (parsed, if there is a schema) and the expected answer, or
            None; it returns a number, and higher is better. It is called for one answer after the
            other, on one of the threads. With `expected` and without a scorer, an equal answer
            scores 1 and any other 0; spaces around a text are ignored.
        max_concurrency: How many prompts are asked at the same time.
        schema: A JSON schema, or a dataclass from which one is made. The answers are then parsed;
            with a dataclass, into instances of it. An answer that does not fit has an error in its
            row, and scores 0 if there is a scorer.
        stop_when: Stop the job at a checkpoint with at least this score; or a function of the
            checkpoint's rows that returns whether to stop. An exception of the function is logged.
            If the cloud cannot be asked to cancel, that is logged, and the next log tries again.
        notify: A function that gets a short text about each checkpoint, on one of the threads:
            `print`, or the `notify` of a notifier, such as `SlackNotifier().notify`, which only
            queues the text. An exception of the function is logged.
        temperature: From 0 to 2; None means the cloud's default. With 0, checkpoints can be
            compared.
        max_tokens: The longest answer, in tokens.
        timeout: Seconds after which the answer to a prompt is given up. A checkpoint is given up,
            with the answers that have come, after the time that all its prompts may take, and 10 s
            for each connection.

    Raises:
        ArkorUsageError: An argument that cannot work; it is also a `ValueError`. In a callback: the
            object serves another run.
    """

    _rows: List[EvaluationRow]
    _stop_reason: str
    _saved_rows: str  # the rows as JSON, as far as they are saved for a restart
    _pool: Optional[WorkerPool[EvaluationRow]] = None
    _process_bound = (*SingleRunCallback._process_bound, "_pool")

    def __init__(
        self,
        prompts: Sequence[Prompt],
        expected: Optional[Sequence[Any]] = None,
        scorer: Optional[Callable[[Any, Any], float]] = None,
        *,
        max_concurrency: int = 4,
        schema: Any = None,
        stop_when: Union[float, Callable[[List[EvaluationRow]], bool], None] = None,
        notify: Optional[Callable[[str], Any]] = None,
        temperature: Optional[float] = 0.0,
        max_tokens: Optional[int] = None,
        timeout: float = 60.0,
    ) -> None:
        fits = isinstance(prompts, Sequence) and not isinstance(prompts, str) and bool(prompts)
        check("prompts", prompts, fits, "a list of texts or of lists of messages")
        self._conversations = [_messages(index, prompt) for index, prompt in enumerate(prompts)]
        self._prompts = [_last_user_text(messages) for messages in self._conversations]
        count = len(self._prompts)
        fits = expected is None or len(expected) == count
        check("expected", expected, fits, f"{count}, one for each of the prompts")
        fits = scorer is None or callable(scorer)
        check("scorer", scorer, fits, "a function of the answer and what was expected")
        fits = type(max_concurrency) is int and max_concurrency >= 1
        check("max_concurrency", max_concurrency, fits, "a whole number from 1")
        fits = stop_when is None or callable(stop_when) or is_number(stop_when)
        check("stop_when", stop_when, fits, "a score, or a function of a checkpoint's rows")
        fits = notify is None or callable(notify)
        check("notify", notify, fits, "a function of a text, such as print")
        check("timeout", timeout, is_number(timeout) and timeout > 0, "seconds above 0")
        fits = temperature is None or (is_number(temperature) and 0 <= temperature <= 2)
        check("temperature", temperature, fits, "a number from 0 to 2, or None")
        fits = max_tokens is None or (type(max_tokens) is int and max_tokens >= 1)
        check("max_tokens", max_tokens, fits, "a whole number from 1, or None")
        self._expected = [None] * count if expected is None else list(expected)
        self._scorer = scorer or (None if expected is None else _equal)
        if is_number(stop_when) and self._scorer is None:
            raise ArkorUsageError(
                "stop_when: got a score, but no scorer and no expected answers; give one of them, "
                "or a function of a checkpoint's rows"
            )
        self._threads = min(count, max_concurrency)
        self._limit = (timeout + _CONNECT) * math.ceil(count / self._threads)
        self._stop_when = stop_when
        self._notify = notify
        self._parse: Optional[Callable[[Any], Any]] = None
        self._options: Dict[str, Any] = {
            "stream": False,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "timeout": timeout,
        }
        if schema is not None:
            self._options["response_format"], self._parse = answer_format(schema)
        self._reset()

    @property
    def table(self) -> List[EvaluationRow]:
        """All rows so far, by step and prompt. Any thread may read it."""
        return list(self._rows)

    @property
    def scores(self) -> Dict[int, Optional[float]]:
        """The mean score of each checkpoint by step; None if a prompt has no score."""
        return {step: mean(rows) for step, rows in by_step(self._rows).items()}

    @property
    def best_step(self) -> Optional[int]:
        """The step of the checkpoint with the best score, the first of equal ones; None if none."""
        scores = {step: score for step, score in self.scores.items() if score is not None}
        return max(scores, key=lambda step: scores[step]) if scores else None

    @property
    def best_score(self) -> Optional[float]:
        """The score of that checkpoint; None if none has a score."""
        best = self.best_step
        return None if best is None else self.scores[best]

    def to_dicts(self) -> List[Dict[str, Any]]:
        """Return the rows as dictionaries; dataclasses in them become dictionaries too."""
        return as_dicts(self._rows)

    def to_csv(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the table as CSV with a header. Runs on the caller's thread.

        The file is replaced as a whole. `parsed` and `expected` are written as JSON, unless they
        are texts.

        Raises:
            OSError: It could not be written; an older file stays as it is.
        """
        write_atomically(Path(path), as_csv(self._rows), 0o644)

    def table_text(self) -> str:
        """Return the table for a terminal: one line for each row, with long texts shortened."""
        return as_text(self._rows)

    def on_checkpoint(self, ctx: CheckpointContext) -> Optional[Future[None]]:
        """Ask the checkpoint; the next callback waits for the future."""
        if self._is_stopping(ctx) or any(row.step == ctx.step for row in self._rows):
            return None
        self._pool = WorkerPool(
            f"arkor-evaluator-{ctx.job.id}",
            lambda index: self._ask(ctx, index),
            len(self._prompts),
            self._threads,
            self._limit,
            lambda rows: self._finish_checkpoint(ctx, rows),
        )
        return self._pool.start()

    def on_log(self, ctx: LogContext) -> None:
        """Ask the cloud again to cancel, if it could not be asked at the checkpoint."""
        self._is_stopping(ctx)

    def on_end(self, ctx: EndContext) -> None:
        """Stop asking."""
        if ctx.run is self._run and self._pool is not None:
            self._pool.stop()
            self._pool = None
        super().on_end(ctx)

    def _is_stopping(self, ctx: Context) -> bool:
        """Return whether the job is to be stopped; if it is, ask the cloud again to cancel it."""
        self._bind(ctx)
        if self._stop_reason:
            try_to_stop(ctx.run, self._stop_reason)
        return bool(self._stop_reason)

    def _ask(self, ctx: CheckpointContext, index: int) -> EvaluationRow:
        answer = error = None
        started = Clock.now()
        try:
            with ctx.infer(self._conversations[index], **self._options) as response:
                answer = response.content()
                if answer is None:
                    error = f"no text came; the answer ended by {response.finish_reason}"
        except Exception as raised:
            error = describe_error(raised)
        return self._row(ctx.step, index, answer, error, Clock.now() - started)

    def _row(
        self, step: int, index: int, answer: Optional[str], error: Optional[str], seconds: float
    ) -> EvaluationRow:
        prompt, expected = self._prompts[index], self._expected[index]
        return EvaluationRow(step, prompt, answer, None, expected, None, error, round(seconds, 3))

    def _finish_checkpoint(
        self, ctx: CheckpointContext, answered: List[Optional[EvaluationRow]]
    ) -> None:
        """Score a checkpoint's answers, notify, and stop the job if it is good enough.

        The pool calls it once, on one of its threads.
        """
        late = f"no answer came within {self._limit:.6g} s"
        rows = [
            self._scored(self._parsed(row or self._row(ctx.step, index, None, late, self._limit)))
            for index, row in enumerate(answered)
        ]
        if ctx.run is not self._run:
            return  # the run has ended meanwhile
        self._rows = [*self._rows, *rows]
        self._update_saved_rows()
        if self._notify is not None:
            try:
                self._notify(self._summary(ctx.step, rows))
            except Exception as error:
                logger.warning("CheckpointEvaluator.notify failed: %s", describe_error(error))
        self._stop_reason = self._reason_to_stop(ctx.step, rows)
        if self._stop_reason:
            try_to_stop(ctx.run, self._stop_reason)

    def _parsed(self, row: EvaluationRow) -> EvaluationRow:
        if row.answer is None or self._parse is None:
            return row
        try:
            return dataclasses.replace(row, parsed=self._parse(parse_json(row.answer)))
        except Exception as error:  # the dataclass's own checks may raise anything
            score = None if self._scorer is None else 0.0
            text = f"the answer does not fit the schema: {error}"
            return dataclasses.replace(row, error=text, score=score)

    def _scored(self, row: EvaluationRow) -> EvaluationRow:
        if self._scorer is None or row.error is not None:
            return row
        try:
            given = row.answer if self._parse is None else row.parsed
            score = float(self._scorer(given, row.expected))
            if not math.isfinite(score):
                raise ValueError(f"a score of {score}")
        except Exception as error:
            return dataclasses.replace(row, error=f"the scorer failed: {describe_error(error)}")
        return dataclasses.replace(row, score=score)

    def _reason_to_stop(self, step: int, rows: List[EvaluationRow]) -> str:
        score = mean(rows)
        if callable(self._stop_when):
            try:
                if self._stop_when(rows):
                    return f"checkpoint {step} met the condition of stop_when"
            except Exception as error:
                logger.warning("CheckpointEvaluator.stop_when failed: %s", describe_error(error))
        elif self._stop_when is not None and score is not None and score >= self._stop_when:
            return f"checkpoint {step} scored {score:.4g}, and {self._stop_when:.4g} was enough"
        return ""

    def _summary(self, step: int, rows: List[EvaluationRow]) -> str:
        score = mean(rows)
        head = f"checkpoint {step}"
        if score is not None:
            head += f": score {score:.4g}, the best is {self.best_score:.4g} at {self.best_step}"
        failed = sum(row.error is not None for row in rows)
        if failed:
            head += f"; {failed} of {len(rows)} prompts failed"
        shown = [
            f"{one_line(row.prompt, 60)} -> {answer_or_error(row, 120)}"
            for row in rows[:_MAX_SHOWN]
        ]
        return "\n".join([head, *shown])

    def _reset(self) -> None:
        self._rows = []
        self._stop_reason = ""
        self._saved_rows = "[]"

    def _save(self) -> Dict[str, Any]:
        return {"rows": self._saved_rows}

    def _restore(self, state: Dict[str, Any]) -> None:
        index, step = 0, None
        for saved in json.loads(state["rows"]):
            index = index + 1 if saved["step"] == step else 0
            step = saved["step"]
            known = index < len(self._prompts) and self._prompts[index] == saved["prompt"]
            expected = self._expected[index] if known else None
            row = EvaluationRow(parsed=None, expected=expected, **saved)
            self._rows.append(self._parsed(row))
        self._update_saved_rows()

    def _update_saved_rows(self) -> None:
        """Convert the rows for a restart to JSON; limited, as it is saved after every event."""
        steps, room = by_step(self._rows), _MAX_SAVED
        kept = {self.best_step}
        for step, rows in reversed(list(steps.items())):
            kept.add(step)
            room -= sum(len(f"{row.prompt}{row.answer}{row.error}") + 100 for row in rows)
            if room < 0:
                break
        names = ("step", "prompt", "answer", "score", "error", "seconds")
        self._saved_rows = json.dumps(
            [
                {name: getattr(row, name) for name in names}
                for step, rows in steps.items()
                for row in rows
                if step in kept
            ]
        )


def _messages(index: int, prompt: Any) -> Sequence[Mapping[str, Any]]:
    try:
        build_chat_body(prompt, base_model="any")
    except ArkorUsageError as error:
        raise ArkorUsageError(f"prompts[{index}]: {error}") from None
    return list(as_messages(prompt))


def _last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    texts = [str(each["content"]) for each in messages if each["role"] == "user"]
    return texts[-1] if texts else ""


def _equal(answer: Any, expected: Any) -> float:
    if isinstance(answer, str) and isinstance(expected, str):
        return float(answer.strip() == expected.strip())
    return float(answer == expected)
