"""The answers of checkpoints as rows, and tables of these rows. Pure."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from fractions import Fraction
from typing import Any, Dict, List, Optional, Sequence

from arkor_sync._common.text import safe_cell
from arkor_sync.render.text import display_width, one_line


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """The answer of one checkpoint to one prompt.

    Attributes:
        step: The step of the checkpoint.
        prompt: The text of the last user message.
        answer: The text of the answer; None if none came.
        parsed: The answer's JSON, or an instance of the dataclass; None without a schema, or if the
            answer does not fit it.
        expected: The value given as `expected`.
        score: The score; None if there is no scorer or no answer, or if the scorer failed.
        error: Why there is no answer, why it does not fit the schema, or what the scorer raised.
        seconds: How long the answer took.
    """

    step: int
    prompt: str
    answer: Optional[str]
    parsed: Any
    expected: Any
    score: Optional[float]
    error: Optional[str]
    seconds: float


def by_step(rows: Sequence[EvaluationRow]) -> Dict[int, List[EvaluationRow]]:
    """Group rows by the step of their checkpoint; the order stays."""
    steps: Dict[int, List[EvaluationRow]] = {}
    for row in rows:
        steps.setdefault(row.step, []).append(row)
    return steps


def mean(rows: Sequence[EvaluationRow]) -> Optional[float]:
    """Return the mean score, or None if a row has none."""
    # Fractions are exact: the mean of ones is one, and no sum is too large for a float.
    scores = [Fraction(row.score) for row in rows if row.score is not None]
    return float(sum(scores) / len(rows)) if len(scores) == len(rows) else None


def answer_or_error(row: EvaluationRow, width: int) -> str:
    """Return the answer, or the error in brackets, on one line of at most `width` columns."""
    return one_line(row.answer or "" if row.error is None else f"({row.error})", width)


def as_dicts(rows: Sequence[EvaluationRow]) -> List[Dict[str, Any]]:
    """Return the rows as dictionaries; dataclasses in them become dictionaries too."""
    return [dataclasses.asdict(row) for row in rows]


def as_csv(rows: Sequence[EvaluationRow]) -> str:
    """Return the rows as a CSV table with a header."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(EvaluationRow)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in as_dicts(rows):
        for name in ("parsed", "expected"):
            if not isinstance(row[name], (str, type(None))):
                row[name] = json.dumps(row[name], ensure_ascii=False, default=str)
        writer.writerow({name: safe_cell(value) for name, value in row.items()})
    return text.getvalue()


def as_text(rows: Sequence[EvaluationRow]) -> str:
    """Return the rows as a table for a terminal."""
    lines = [f"{'step':>6}  {'score':>6}  {'seconds':>7}  {'prompt':<30}  answer"]
    for row in rows:
        score = "-" if row.score is None else f"{row.score:.3g}"
        prompt = one_line(row.prompt, 30)
        prompt += " " * (30 - display_width(prompt))
        numbers = f"{row.step:>6}  {score:>6}  {row.seconds:>7.2f}"
        lines.append(f"{numbers}  {prompt}  {answer_or_error(row, 70)}".rstrip())
    return "\n".join(lines)
