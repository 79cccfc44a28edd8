"""The evaluator: what it asks, what it makes of the answers, and what cannot harm the run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, cast

import pytest
from expiring_pool import expiring

from arkor_sync import ArkorUsageError, FileCursorStore, RunAborted, follow
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import CheckpointEvaluator, EvaluationRow
from arkor_sync.handlers.evaluation.answers import as_csv
from support.waiting import PATIENCE, until


def right_from(step_of: int) -> Any:
    """Answer what was asked for, from this step on."""

    def reply(chat: Any, job: Any, step: int) -> str:
        return f"{chat.prompt}!" if step >= step_of else "?"

    return reply


def engine(reply: Any, **more: Any) -> ScriptedEngine:
    return ScriptedEngine(**{"steps": 6, "checkpoints": [2, 4, 6], "reply": reply, **more})


def endless(reply: Any) -> ScriptedEngine:
    """Tell of twenty steps, and neither of more nor of an end."""
    return engine(reply, steps=5000, silent_at=20)


def run_of(emulator: Emulator, client: Any, callbacks: Any, the_engine: Any, **options: Any) -> Any:
    job_id = emulator.create_job(the_engine)
    return follow(job_id, callbacks=callbacks, client=client, **options)


def threads() -> List[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("arkor-evaluator-")]


def all_end() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("arkor-evaluator-"):
            thread.join(PATIENCE)
    assert threads() == []


def test_every_checkpoint_is_asked_every_prompt_and_the_best_is_found(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(
        ["a", [{"role": "system", "content": "be brief"}, {"role": "user", "content": "b"}]],
        expected=["a!", "b!"],
        max_tokens=50,
    )
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(4)))
    assert run.wait(PATIENCE).status == "completed"
    rows = [(row.step, row.prompt, row.answer, row.score, row.error) for row in evaluator.table]
    assert rows == [
        (2, "a", "?", 0.0, None),
        (2, "b", "?", 0.0, None),
        (4, "a", "a!", 1.0, None),
        (4, "b", "b!", 1.0, None),
        (6, "a", "a!", 1.0, None),
        (6, "b", "b!", 1.0, None),
    ]
    assert all(row.seconds >= 0 for row in evaluator.table)
    assert evaluator.scores == {2: 0.0, 4: 1.0, 6: 1.0}
    assert (evaluator.best_step, evaluator.best_score) == (4, 1.0)
    bodies = [r.body for r in arkor_emulator.requests if r.path.endswith("/chat")]
    assert {(body["stream"], body["temperature"], body["maxTokens"]) for body in bodies} == {
        (False, 0.0, 50)
    }
    assert [body["messages"][0]["content"] for body in bodies].count("be brief") == 3


def test_without_a_scorer_there_are_answers_and_no_scores(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(["a"])
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(0)))
    assert run.wait(PATIENCE).status == "completed"
    assert [row.answer for row in evaluator.table] == ["a!"] * 3
    assert evaluator.scores == {2: None, 4: None, 6: None}
    assert evaluator.best_step is evaluator.best_score is None


def test_so_many_are_asked_at_the_same_time_and_no_more(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    together = threading.Barrier(3)
    lock = threading.Lock()
    at_once: List[int] = [0, 0]

    def reply(chat: Any, job: Any, step: int) -> str:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        together.wait(PATIENCE)  # three are here, or it breaks
        with lock:
            at_once[0] -= 1
        return "yes"

    evaluator = CheckpointEvaluator(list("abcdef"), max_concurrency=3)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(reply, checkpoints=[2]))
    assert run.wait(PATIENCE).status == "completed"
    assert [row.error for row in evaluator.table] == [None] * 6
    assert at_once[1] == 3
    all_end()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", route="chat", status=503, nth=2),
        Fault("reset_peer", route="chat", nth=2),
        Fault("cut_mid_event", route="chat", nth=2),
        Fault("accept_then_drop", route="chat", nth=2),
        Fault("wrong_content_type", route="chat", nth=2),
    ],
)
def test_one_failing_prompt_is_an_error_in_its_row_and_nothing_else(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, fault: Fault
) -> None:
    arkor_emulator.faults.add(fault)
    evaluator = CheckpointEvaluator(list("abc"), expected=["a!", "b!", "c!"], max_concurrency=1)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(0)))
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0
    [broken] = [row for row in evaluator.table if row.error]
    assert (broken.step, broken.prompt, broken.answer, broken.score) == (2, "b", None, None)
    assert evaluator.scores == {2: None, 4: 1.0, 6: 1.0}
    assert evaluator.best_step == 4


def test_a_chat_route_that_is_broken_all_along_harms_nothing(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    arkor_emulator.faults.add(Fault("status", route="chat", status=500, count=None))
    evaluator = CheckpointEvaluator(list("abc"), expected=list("abc"), stop_when=0.5)
    logs: List[int] = []
    callbacks = [evaluator, {"on_log": lambda ctx: logs.append(ctx.step)}]
    run = run_of(arkor_emulator, arkor_client, callbacks, engine("hi"))
    assert run.wait(PATIENCE).status == "completed"
    assert logs == [1, 2, 3, 4, 5, 6]
    assert len(evaluator.table) == 9
    assert all("ServerError" in str(row.error) for row in evaluator.table)
    assert evaluator.best_step is None


def test_a_prompt_that_is_never_answered_is_given_up_after_its_timeout(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    arkor_emulator.faults.add(Fault("stall_before_headers", route="chat"))

    class MorePatient(CheckpointEvaluator):
        """Has time for the second prompt, which will be answered."""

        def _row(self, *arguments: Any) -> EvaluationRow:
            self._options["timeout"] = PATIENCE
            return super()._row(*arguments)

    evaluator = MorePatient(["a", "b"], max_concurrency=1, timeout=0.1)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(0), checkpoints=[2]))
    assert run.wait(PATIENCE).status == "completed"
    first, second = evaluator.table
    assert "ArkorTimeoutError" in str(first.error)
    assert second.answer == "b!"


def test_an_answer_that_trickles_in_for_ever_does_not_hold_the_run_up_for_ever(
    arkor_emulator: Emulator,
    arkor_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: List[float] = []
    monkeypatch.setattr("arkor_sync.handlers.evaluation.evaluator.WorkerPool", expiring(limits))
    arkor_emulator.faults.add(Fault("slow_drip", route="chat", nth=1, seconds=0.1))
    evaluator = CheckpointEvaluator(["a", "b"], expected=["a!", "b!"], timeout=PATIENCE)
    logs: List[int] = []
    callbacks = [evaluator, {"on_log": lambda ctx: logs.append(ctx.step)}]
    run = run_of(
        arkor_emulator, arkor_client, callbacks, engine(right_from(0), checkpoints=[2], steps=3)
    )
    assert run.wait(PATIENCE).status == "completed"
    assert logs == [1, 2, 3]
    [late] = [row for row in evaluator.table if row.error]
    limit = PATIENCE + 10  # to connect
    assert limits == [limit]
    assert late.error == f"no answer came within {limit:g} s"
    assert (late.answer, late.score, late.seconds) == (None, None, limit)
    [there] = [row for row in evaluator.table if not row.error]
    assert there.score == 1.0
    arkor_emulator.stop()
    all_end()


def test_abort_does_not_wait_for_answers_and_the_threads_end_with_the_run(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    asked, let_go = threading.Barrier(3), threading.Event()

    def reply(chat: Any, job: Any, step: int) -> str:
        asked.wait(PATIENCE)
        let_go.wait(PATIENCE)
        return "late"

    evaluator = CheckpointEvaluator(list("abcd"), max_concurrency=2)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(reply), abort_grace=PATIENCE / 2)
    asked.wait(PATIENCE)  # both are
    assert all(run.job.id in name for name in threads())
    assert len(threads()) == 3  # two ask, one watches the time
    run.abort("enough")
    with pytest.raises(RunAborted, match="enough") as aborted:
        run.wait(PATIENCE)
    assert aborted.value.callback is None  # nobody had to be waited for
    let_go.set()
    all_end()
    chats = [r for r in arkor_emulator.requests if r.path.endswith("/chat")]
    assert len(chats) == 2  # the other two were not asked any more
    assert evaluator.table == []


def test_what_is_judged_after_the_end_of_the_run_comes_to_nothing(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    scoring, let_go = threading.Event(), threading.Event()
    told: List[str] = []

    def scorer(answer: str, expected: Any) -> float:
        scoring.set()
        let_go.wait(PATIENCE)
        return 1.0

    evaluator = CheckpointEvaluator(["a"], scorer=scorer, notify=told.append, stop_when=1.0)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine("hi"))
    assert scoring.wait(PATIENCE)
    judges = [t for t in threading.enumerate() if t.name.startswith("arkor-evaluator-")]
    run.abort()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    let_go.set()
    for thread in judges:
        thread.join(PATIENCE)
    assert evaluator.table == []
    assert told == []
    assert [r for r in arkor_emulator.requests if r.path.endswith("/cancel")] == []


def test_a_conversation_is_named_by_its_last_question_and_spaces_around_an_answer_do_not_count(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "last"},
    ]
    evaluator = CheckpointEvaluator([turns], expected=[" last!\n"])
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(0), checkpoints=[2]))
    assert run.wait(PATIENCE).status == "completed"
    assert [(row.prompt, row.score) for row in evaluator.table] == [("last", 1.0)]


@pytest.mark.parametrize(("threads", "limit"), [(1, 75.0), (2, 45.0), (4, 30.0), (9, 15.0)])
def test_a_checkpoint_has_as_long_as_all_its_prompts_may_take(threads: int, limit: float) -> None:
    evaluator = CheckpointEvaluator(list("abcde"), max_concurrency=threads, timeout=5)
    assert evaluator._limit == limit


def test_the_end_of_another_run_stops_nothing_of_this_one() -> None:
    evaluator = CheckpointEvaluator(["a"])
    stopped: List[str] = []
    mine, other = SimpleNamespace(), SimpleNamespace()
    evaluator._run = cast(Any, mine)
    evaluator._pool = cast(Any, SimpleNamespace(stop=lambda: stopped.append("stopped")))
    evaluator.on_end(cast(Any, SimpleNamespace(run=other)))  # it was refused this evaluator
    assert stopped == []
    evaluator.on_end(cast(Any, SimpleNamespace(run=mine)))
    assert stopped == ["stopped"]
    assert evaluator._pool is evaluator._run is None


def test_a_score_that_is_reached_stops_the_job(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(["a"], expected=["a!"], stop_when=0.9)
    run = run_of(arkor_emulator, arkor_client, evaluator, endless(right_from(4)))
    result = run.wait(PATIENCE)
    assert result.status == "cancelled"
    assert result.stop_reason == "checkpoint 4 scored 1, and 0.9 was enough"
    assert [row.step for row in evaluator.table] == [2, 4]


def test_a_function_of_the_rows_can_stop_the_job_and_may_fail(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hopeless(rows: List[EvaluationRow]) -> bool:
        if rows[0].step == 2:
            raise LookupError("not yet")
        return rows[0].answer == "a!"

    evaluator = CheckpointEvaluator(["a"], stop_when=hopeless)
    run = run_of(arkor_emulator, arkor_client, evaluator, endless(right_from(4)))
    result = run.wait(PATIENCE)
    assert result.stop_reason == "checkpoint 4 met the condition of stop_when"
    assert "stop_when failed: LookupError: not yet" in caplog.text


@pytest.mark.arkor(faults=[Fault("status", route="cancel_job", status=503, count=2)])
def test_where_the_job_cannot_be_cancelled_the_next_log_asks_again(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(["a"], expected=["a!"], stop_when=1)
    run = run_of(arkor_emulator, arkor_client, evaluator, endless(right_from(0)))
    assert run.wait(PATIENCE).stop_reason == "checkpoint 2 scored 1, and 1 was enough"
    assert len(evaluator.table) == 1


@pytest.mark.arkor(faults=[Fault("status", route="cancel_job", status=503, count=1)])
def test_a_worse_checkpoint_does_not_take_back_what_could_not_be_asked(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    events = [
        {"type": "training.started"},
        {"type": "checkpoint.saved", "step": 2, "artifacts": []},
        {"type": "checkpoint.saved", "step": 4, "artifacts": []},
    ]
    the_engine = ScriptedEngine(
        events=events, manual=True, reply=lambda chat, job, step: "a!" if step == 2 else "?"
    )
    evaluator = CheckpointEvaluator(["a"], expected=["a!"], stop_when=1)
    run = run_of(arkor_emulator, arkor_client, evaluator, the_engine)
    arkor_emulator.step(run.job.id, 3)
    assert run.wait(PATIENCE).stop_reason == "checkpoint 2 scored 1, and 1 was enough"
    assert len(evaluator.table) == 1


def test_a_notifier_is_told_of_each_checkpoint_and_may_fail(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arkor_emulator.faults.add(Fault("status", route="chat", status=503, nth=2))
    told: List[str] = []

    def notify(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise OSError("no route to host")

    evaluator = CheckpointEvaluator(
        ["a", "b"], expected=["a!", "b!"], max_concurrency=1, notify=notify
    )
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(4)))
    assert run.wait(PATIENCE).status == "completed"
    assert told[0].splitlines()[:2] == ["checkpoint 2; 1 of 2 prompts failed", "a -> ?"]
    assert told[1] == "checkpoint 4: score 1, the best is 1 at 4\na -> a!\nb -> b!"
    assert told[2] == "checkpoint 6: score 1, the best is 1 at 4\na -> a!\nb -> b!"
    assert "CheckpointEvaluator.notify failed: OSError: no route to host" in caplog.text


def test_a_scorer_that_fails_is_an_error_in_the_row(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    def scorer(answer: str, expected: Any) -> float:
        return {"a!": 1.0, "b!": float("nan")}[answer]

    evaluator = CheckpointEvaluator(["a", "b", "c"], scorer=scorer)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(right_from(0), checkpoints=[2]))
    assert run.wait(PATIENCE).status == "completed"
    assert [(row.score, row.error) for row in evaluator.table] == [
        (1.0, None),
        (None, "the scorer failed: ValueError: a score of nan"),
        (None, "the scorer failed: KeyError: 'c!'"),
    ]


@dataclasses.dataclass
class Triage:
    category: str
    priority: int


ANSWERS = {
    "good": '{"category": "billing", "priority": 2}',
    "odd": '{"category": "billing"}',
    "cut": '{"category": "bil',
}


def by_prompt(chat: Any, job: Any, step: int) -> Any:
    return ANSWERS.get(chat.prompt) or {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }


def test_structured_answers_become_instances_and_what_does_not_fit_scores_0(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(
        ["good", "odd", "cut", "calls a tool"],
        expected=[Triage("billing", 2)] * 4,
        schema=Triage,
    )
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(by_prompt, checkpoints=[2]))
    assert run.wait(PATIENCE).status == "completed"
    good, odd, cut, call = evaluator.table
    assert (good.parsed, good.score, good.error) == (Triage("billing", 2), 1.0, None)
    assert (odd.parsed, odd.score) == (None, 0.0)
    assert odd.error == "the answer does not fit the schema: priority: is missing"
    assert cut.score == 0.0
    assert str(cut.error).startswith("the answer does not fit the schema: Unterminated string")
    assert (call.score, call.error) == (None, "no text came; the answer ended by tool_calls")
    [body, *_] = [r.body for r in arkor_emulator.requests if r.path.endswith("/chat")]
    assert body["responseFormat"]["json_schema"]["name"] == "Triage"


def test_the_table_as_text_as_dicts_and_as_csv(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    schema: Dict[str, Any] = {"type": "object", "properties": {"category": {"type": "string"}}}
    evaluator = CheckpointEvaluator(["good", "cut"], schema=schema, scorer=lambda given, _: 0.5)
    run = run_of(arkor_emulator, arkor_client, evaluator, engine(by_prompt, checkpoints=[2]))
    run.wait(PATIENCE)
    head, good, cut = evaluator.table_text().splitlines()
    assert head.split() == ["step", "score", "seconds", "prompt", "answer"]
    assert good.split()[:2] == ["2", "0.5"]
    assert good.endswith(ANSWERS["good"])
    assert cut.endswith("…")
    assert "(the answer does not fit the schema: Unterminated" in cut
    parsed = {"category": "billing", "priority": 2}
    assert evaluator.to_dicts()[0]["parsed"] == parsed
    path = tmp_path / "answers.csv"
    evaluator.to_csv(path)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["parsed"]) == parsed
    assert (first["step"], first["prompt"], first["score"]) == ("2", "good", "0.5")
    assert (second["answer"], second["parsed"], second["score"]) == (ANSWERS["cut"], "", "0.0")


@pytest.mark.parametrize("answer", ["=HYPERLINK(1)", "+1", "-1+1", "@x", "\t=1"])
def test_no_answer_is_a_formula_in_the_csv_table(answer: str) -> None:
    row = EvaluationRow(1, answer, answer, None, None, None, None, 0.1)
    (read,) = csv.DictReader(io.StringIO(as_csv([row])))
    assert (read["prompt"], read["answer"]) == (f"'{answer}", f"'{answer}")


def test_the_table_survives_a_restart_and_what_is_in_it_is_not_asked_again(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    def make() -> CheckpointEvaluator:
        return CheckpointEvaluator(
            ["good", "cut"], expected=[Triage("billing", 2), None], schema=Triage
        )

    store = FileCursorStore(tmp_path)
    first, second = make(), make()
    job_id = arkor_emulator.create_job(engine(by_prompt, manual=True))
    run = follow(job_id, callbacks=first, client=arkor_client, cursor_store=store)
    arkor_emulator.step(job_id, 4)  # started, two logs, a checkpoint
    until(lambda: run.health().delivered == 4)
    run.close()
    again = follow(job_id, callbacks=second, client=arkor_client, cursor_store=store)
    assert second.table == first.table
    assert second.table[0].parsed == Triage("billing", 2)
    arkor_emulator.step(job_id, 20)
    assert again.wait(PATIENCE).status == "completed"
    assert [row.step for row in second.table] == [2, 2, 4, 4, 6, 6]
    repeat = follow(job_id, callbacks=second, client=arkor_client)  # tells it all once more
    assert repeat.wait(PATIENCE).status == "completed"
    assert len(second.table) == 6
    asked = [r for r in arkor_emulator.requests if r.path.endswith("/chat")]
    assert len(asked) == 6


def rows_of(steps: int, prompts: List[str], answer: str) -> List[EvaluationRow]:
    return [
        EvaluationRow(step, prompt, answer, None, None, float(step == 3), None, 0.1)
        for step in range(1, steps + 1)
        for prompt in prompts
    ]


def test_what_is_kept_for_a_restart_is_bounded_and_has_the_best_and_the_latest() -> None:
    prompts = ["a", "b"]
    evaluator = CheckpointEvaluator(prompts, expected=[1, 2])
    evaluator._rows = rows_of(400, prompts, "word " * 200)
    evaluator._update_saved_rows()
    state = json.dumps(evaluator.state_dict())
    assert len(state) < 300_000
    second = CheckpointEvaluator(prompts, expected=[1, 2])
    second.load_state_dict(json.loads(state))
    assert (second.best_step, second.best_score) == (3, 1.0)
    steps = list(second.scores)
    assert steps == [3, *range(401 - (len(steps) - 1), 401)]
    assert len(steps) > 50
    evaluator._rows = rows_of(5, prompts, "word " * 100_000)
    evaluator._update_saved_rows()
    second.load_state_dict(evaluator.state_dict())
    assert list(second.scores) == [3, 5]


def test_prompts_that_end_alike_get_their_own_expected_answers_back() -> None:
    prompts = [
        [{"role": "system", "content": tone}, {"role": "user", "content": "hi"}]
        for tone in ("polite", "rude")
    ]
    first, second = (CheckpointEvaluator(prompts, expected=["please", "no"]) for _ in range(2))
    first._rows = [
        EvaluationRow(step, "hi", answer, None, answer, 1.0, None, 0.1)
        for step in (1, 2)
        for answer in ("please", "no")
    ]
    first._update_saved_rows()
    second.load_state_dict(first.state_dict())
    assert second.table == first.table
    assert second.state_dict() == first.state_dict()  # for a second restart
    changed = CheckpointEvaluator(["hello"], expected=["please"])
    changed.load_state_dict(first.state_dict())
    assert [row.expected for row in changed.table] == [None] * 4


@pytest.mark.parametrize("count", range(1, 60))
def test_the_mean_of_equal_scores_is_that_score(count: int) -> None:
    for score in (1.0, 0.1, 1e308):
        evaluator = CheckpointEvaluator(["a"])
        evaluator._rows = [EvaluationRow(1, "a", "b", None, None, score, None, 0.1)] * count
        assert evaluator.best_score == score


def test_a_table_for_a_terminal_lines_up_and_no_answer_can_break_it() -> None:
    evaluator = CheckpointEvaluator(["日本語", "red\x1b[31m\n"])
    evaluator._rows = [
        EvaluationRow(1, "日本語", "one\ntwo", None, None, None, None, 0.1),
        EvaluationRow(1, "red\x1b[31m\n", "\x1b[2J\x07", None, None, 0.25, None, 12.0),
    ]
    assert evaluator.table_text().splitlines()[1:] == [
        "     1       -     0.10  日本語                          one two",
        "     1    0.25    12.00  red",
    ]


def test_one_object_serves_one_run_after_the_other(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    evaluator = CheckpointEvaluator(["a"])
    for _ in range(2):
        the_engine = engine(right_from(0), checkpoints=[2])
        run = run_of(arkor_emulator, arkor_client, evaluator, the_engine)
        assert run.wait(PATIENCE).status == "completed"
        assert [row.step for row in evaluator.table] == [2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"prompts": "a"}, "prompts: got str 'a'; give a list of texts"),
        ({"prompts": []}, "prompts: got an empty list; give a list of texts"),
        ({"prompts": ["a", 5]}, r"prompts\[1\]: messages: got int 5"),
        ({"prompts": [[{"role": "boss"}]]}, r"prompts\[0\]: messages\[0\].role: got str 'boss'"),
        (
            {"expected": ["x", "y"]},
            "expected: got a list of 2; give 1, one for each",
        ),
        ({"scorer": 1}, "scorer: got int 1; give a function"),
        ({"max_concurrency": 0}, "max_concurrency: got int 0; give a whole number from 1"),
        ({"stop_when": "1"}, "stop_when: got str '1'; give a score, or a function"),
        (
            {"stop_when": 0.5},
            "stop_when: got a score, but no scorer and no expected answers; give one of them",
        ),
        ({"notify": "#channel"}, "notify: got str '#channel'; give a function of a text"),
        ({"timeout": 0}, "timeout: got int 0; give seconds above 0"),
        ({"temperature": 3}, "temperature: got int 3; give a number from 0 to 2, or None"),
        ({"temperature": "hot"}, "temperature: got str 'hot'"),
        ({"max_tokens": 0}, "max_tokens: got int 0; give a whole number from 1, or None"),
        ({"schema": int}, "schema: got the class int; give a JSON schema as an object, or a"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_with_what_would(
    arguments: Dict[str, Any], told: str
) -> None:
    with pytest.raises(ArkorUsageError, match=told):
        CheckpointEvaluator(**{"prompts": ["a"], **arguments})
