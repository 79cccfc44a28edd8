"""Ask every checkpoint the same questions. The worker thread waits; threads of its own ask."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from arkor_sync._common.arguments import check, is_number
from arkor_sync._common.files import write_atomically
from arkor_sync._common.json import parse_json
from arkor_sync.cloud.chat_request import build_chat_body
from arkor_sync.contexts import CheckpointContext, Context, EndContext, LogContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.safety import said
from arkor_sync.handlers._shared.single_run import OneRun, stop
from arkor_sync.handlers.evaluation.answers import (
    EvaluationRow,
    as_csv,
    as_dicts,
    as_text,
    by_step,
    mean,
    told,
)
from arkor_sync.handlers.evaluation.schema import answer_format
from arkor_sync.handlers.evaluation.work_pool import Round
from arkor_sync.render.text import one_line

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger("arkor_sync.handlers")

Prompt = Union[str, Sequence[Mapping[str, Any]]]
_SHOWN = 3  # answers in a message to the notifier
_KEPT = 200_000  # characters of the table that are kept for a restart
_CONNECT = 10.0  # seconds that a prompt may take beside its timeout


class CheckpointEvaluator(OneRun):
    """Ask each checkpoint all prompts, and keep a table of what it answers.

    The prompts of a checkpoint are asked several at a time, on daemon threads that end when the
    last is answered, or with the run. The next callback waits for them; `abort()` does not. A
    prompt that cannot be answered is an error in its row, and nothing else. One object serves one
    run at a time. Its table is kept with the run's cursor, as far as it is not too long: then the
    best checkpoint and the latest are. A checkpoint that is in it is not asked again.

    Args:
        prompts: Texts, or lists of messages.
        expected: For each prompt what would be right, for the scorer.
        scorer: Called with the answer (parsed, where there is a schema) and what was expected, or
            None; returns a number, more is better. It is called for one answer after the other, on
            one of the threads. With `expected` and without a scorer an answer that is equal scores
            1, any other 0; spaces around a text do not count.
        max_concurrency: How many prompts are asked at the same time.
        schema: A JSON schema, or a dataclass to make one of; the answers are then parsed, into
            instances of the dataclass. An answer that does not fit is an error in its row, and
            scores 0 if there is a scorer.
        stop_when: Stop the job at a checkpoint with this score or a better one; or a function of
            the checkpoint's rows that says whether to. A failure of the function is logged. If the
            cloud cannot be asked to cancel, that is logged, and it is asked again at the next log.
        notify: Called with a short text about each checkpoint, on one of the threads: `print`, or
            a notifier's `notify`, such as `SlackNotifier().notify`, which only queues it.
            Its failure is logged.
        temperature: 0 to 2; None leaves it to the cloud. With 0 checkpoints can be compared.
        max_tokens: The longest answer.
        timeout: Seconds of silence after which a prompt is given up. A checkpoint is given up with
            what it has answered after as long as all of its prompts may take, and 10 s for each to
            connect.

    Raises:
        ArkorUsageError: An argument that cannot work; it is also a `ValueError`. In a callback: the
            object serves another run.
    """

    _rows: List[EvaluationRow]
    _stop_reason: str
    _kept: str  # the rows as JSON, as far as they are kept for a restart
    _round: Optional[Round[EvaluationRow]] = None

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
        self._prompts = [_last_words(messages) for messages in self._conversations]
        count = len(self._prompts)
        fits = expected is None or len(expected) == count
        check("expected", expected, fits, f"one for each of the {count} prompts")
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
            raise ArkorUsageError("stop_when: a score needs a scorer, or expected answers")
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
        """The mean score of each checkpoint by step; None where not every prompt has a score."""
        return {step: mean(rows) for step, rows in by_step(self._rows).items()}

    @property
    def best_step(self) -> Optional[int]:
        """The checkpoint with the best score, the first of equals; None where none has one."""
        scores = {step: score for step, score in self.scores.items() if score is not None}
        return max(scores, key=lambda step: scores[step]) if scores else None

    @property
    def best_score(self) -> Optional[float]:
        """Its score."""
        best = self.best_step
        return None if best is None else self.scores[best]

    def to_dicts(self) -> List[Dict[str, Any]]:
        """Return the rows as dictionaries, dataclasses in them too."""
        return as_dicts(self._rows)

    def to_csv(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the table as CSV, with a header; the file is replaced as a whole.

        `parsed` and `expected` are written as JSON, unless they are texts.

        Raises:
            OSError: It could not be written; an older file is untouched.
        """
        write_atomically(Path(path), as_csv(self._rows), 0o644, durable=False)

    def table_text(self) -> str:
        """Return the table for a terminal: a line for each row, long texts cut."""
        return as_text(self._rows)

    def on_checkpoint(self, ctx: CheckpointContext) -> Optional[Future[None]]:
        """Ask the checkpoint; the next callback waits for the future."""
        if self._stopping(ctx) or any(row.step == ctx.step for row in self._rows):
            return None  # delivered again
        self._round = Round(
            f"arkor-evaluator-{ctx.job.id}",
            lambda index: self._ask(ctx, index),
            len(self._prompts),
            self._threads,
            self._limit,
            lambda rows: self._take(ctx, rows),
        )
        return self._round.start()

    def on_log(self, ctx: LogContext) -> None:
        """Ask the cloud to cancel, if it could not be asked before."""
        self._stopping(ctx)

    def on_end(self, ctx: EndContext) -> None:
        """Ask nothing more."""
        if ctx.run is self._run and self._round is not None:
            self._round.stop()
            self._round = None
        super().on_end(ctx)

    def _stopping(self, ctx: Context) -> bool:
        self._enter(ctx)
        if self._stop_reason:
            stop(ctx.run, self._stop_reason)
        return bool(self._stop_reason)

    def _ask(self, ctx: CheckpointContext, index: int) -> EvaluationRow:
        answer = error = None
        began = time.monotonic()
        try:
            with ctx.infer(self._conversations[index], **self._options) as response:
                answer = response.content()
                if answer is None:
                    error = f"no text came; the answer ended by {response.finish_reason}"
        except Exception as failure:
            error = said(failure)
        return self._row(ctx.step, index, answer, error, time.monotonic() - began)

    def _row(
        self, step: int, index: int, answer: Optional[str], error: Optional[str], seconds: float
    ) -> EvaluationRow:
        prompt, expected = self._prompts[index], self._expected[index]
        return EvaluationRow(step, prompt, answer, None, expected, None, error, round(seconds, 3))

    def _take(self, ctx: CheckpointContext, asked: List[Optional[EvaluationRow]]) -> None:
        """Judge a checkpoint's answers, and do what follows from them. One thread, once."""
        late = f"no answer came within {self._limit:.6g} s"
        rows = [
            self._scored(self._parsed(row or self._row(ctx.step, index, None, late, self._limit)))
            for index, row in enumerate(asked)
        ]
        if ctx.run is not self._run:
            return  # it has ended meanwhile
        self._rows = [*self._rows, *rows]
        self._keep()
        if self._notify is not None:
            try:
                self._notify(self._summary(ctx.step, rows))
            except Exception as error:
                logger.warning("CheckpointEvaluator.notify failed: %s", said(error))
        self._stop_reason = self._reason_to_stop(ctx.step, rows)
        if self._stop_reason:
            stop(ctx.run, self._stop_reason)

    def _parsed(self, row: EvaluationRow) -> EvaluationRow:
        if row.answer is None or self._parse is None:
            return row
        try:
            return dataclasses.replace(row, parsed=self._parse(parse_json(row.answer)))
        except Exception as error:  # the dataclass's own checks, too
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
            return dataclasses.replace(row, error=f"the scorer failed: {said(error)}")
        return dataclasses.replace(row, score=score)

    def _reason_to_stop(self, step: int, rows: List[EvaluationRow]) -> str:
        score = mean(rows)
        if callable(self._stop_when):
            try:
                if self._stop_when(rows):
                    return f"checkpoint {step} met the condition of stop_when"
            except Exception as error:
                logger.warning("CheckpointEvaluator.stop_when failed: %s", said(error))
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
        shown = [f"{one_line(row.prompt, 60)} -> {told(row, 120)}" for row in rows[:_SHOWN]]
        return "\n".join([head, *shown])

    def _reset(self) -> None:
        self._rows = []
        self._stop_reason = ""
        self._kept = "[]"

    def _save(self) -> Dict[str, Any]:
        return {"rows": self._kept}

    def _restore(self, state: Dict[str, Any]) -> None:
        index, step = 0, None
        for saved in json.loads(state["rows"]):
            index = index + 1 if saved["step"] == step else 0
            step = saved["step"]
            known = index < len(self._prompts) and self._prompts[index] == saved["prompt"]
            expected = self._expected[index] if known else None
            row = EvaluationRow(parsed=None, expected=expected, **saved)
            self._rows.append(self._parsed(row))
        self._keep()

    def _keep(self) -> None:
        """Write down what a restart needs: it is saved after every event, so within bounds."""
        steps, room = by_step(self._rows), _KEPT
        kept = {self.best_step}
        for step, rows in reversed(list(steps.items())):
            kept.add(step)
            room -= sum(len(f"{row.prompt}{row.answer}{row.error}") + 100 for row in rows)
            if room < 0:
                break
        names = ("step", "prompt", "answer", "score", "error", "seconds")
        self._kept = json.dumps(
            [
                {name: getattr(row, name) for name in names}
                for step, rows in steps.items()
                for row in rows
                if step in kept
            ]
        )


def _messages(index: int, prompt: Any) -> Sequence[Mapping[str, Any]]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    try:
        build_chat_body(messages, base_model="any")
    except ArkorUsageError as error:
        raise ArkorUsageError(f"prompts[{index}]: {error}") from None
    return list(messages)


def _last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    texts = [str(each["content"]) for each in messages if each["role"] == "user"]
    return texts[-1] if texts else ""


def _equal(answer: Any, expected: Any) -> float:
    if isinstance(answer, str) and isinstance(expected, str):
        return float(answer.strip() == expected.strip())
    return float(answer == expected)
