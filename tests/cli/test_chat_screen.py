"""A conversation in a terminal: what a person sees of it, and which keys do what."""

from __future__ import annotations

import re
import threading
from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.terminal import Terminal
from support.waiting import PATIENCE

TICKET = (
    "I would open a ticket in the queue *billing* and ask for the number of the invoice.\n"
    "\n"
    "1. look up the customer\n"
    "    then the invoice\n"
)


def reply(chat: Any, job: Any, step: Any) -> Any:
    """Answer with what was sent, or with a text of several lines."""
    if chat.prompt == "ticket":
        return f"{TICKET}Step {step or 'final'}."
    said = " / ".join(message["content"] for message in chat.messages)
    return f"{step or 'final'} was sent: {said}"


def ended(emulator: Emulator, answer: Any, name: str = "triage") -> str:
    """Return the id of a job that has ended."""
    engine = ScriptedEngine(steps=20, checkpoints=(10, 20), reply=answer)
    job_id = emulator.create_job(engine, name=name)
    emulator.wait_for(lambda: emulator.jobs[job_id].terminal)
    return job_id


@pytest.fixture
def job(emulator: Emulator) -> str:
    """Make a job that answers with what was sent."""
    return ended(emulator, reply)


def last_line(shown: Terminal) -> str:
    return shown.text.rpartition("\n")[2]


def wait_for_prompt(shown: Terminal) -> None:
    shown.until(lambda: last_line(shown) == ">")


def type_line(shown: Terminal, text: str) -> None:
    shown.press(text)
    shown.until(lambda: last_line(shown).endswith(text[-12:]))
    shown.press("enter")


def say(shown: Terminal, text: str) -> None:
    """Type a line, and wait for the end of what comes of it."""
    type_line(shown, text)
    wait_for_prompt(shown)


def begin(terminal: Any, *arguments: str, **size: Any) -> Terminal:
    shown: Terminal = terminal("chat", *arguments, **{"lines": 60, **size})
    wait_for_prompt(shown)
    return shown


def test_a_conversation(terminal: Any, job: str) -> None:
    shown = begin(terminal, "triage@10")
    say(shown, "one")
    say(shown, "/system Be kind")
    say(shown, "two")
    say(shown, "/undo")
    say(shown, "three")
    say(shown, "/retry")
    say(shown, "/reset")
    say(shown, "/system")
    say(shown, "four")
    type_line(shown, "/quit")
    assert shown.wait() == 0
    first = "one / 10 was sent: one"
    assert shown.screen[:20] == [
        "You are talking to triage@10. /help shows the commands; Ctrl-D ends.",
        "> one",
        "10 was sent: one",
        "> /system Be kind",
        "The system message is set.",
        "> two",
        f"10 was sent: Be kind / {first} / two",
        "> /undo",
        "Forgotten: two",
        "> three",
        f"10 was sent: Be kind / {first} / three",
        "> /retry",
        f"10 was sent: Be kind / {first} / three",
        "> /reset",
        "All questions and answers are forgotten.",
        "> /system",
        "There is no system message.",
        "> four",
        "10 was sent: four",
        "> /quit",
    ]


COMPARED = {
    40: """\
triage@10
----------------------------------------
I would open a ticket in the queue
*billing* and ask for the number of the
invoice.

1. look up the customer
    then the invoice
Step 10.
triage
----------------------------------------
I would open a ticket in the queue
*billing* and ask for the number of the
invoice.

1. look up the customer
    then the invoice
Step final.
>""",
    80: """\
triage@10                              | triage
-------------------------------------- | --------------------------------------
I would open a ticket in the queue     | I would open a ticket in the queue
*billing* and ask for the number of    | *billing* and ask for the number of
the invoice.                           | the invoice.
                                       |
1. look up the customer                | 1. look up the customer
    then the invoice                   |     then the invoice
Step 10.                               | Step final.
>""",
    160: """\
triage@10                                                                      | triage
------------------------------------------------------------------------------ | \
------------------------------------------------------------------------------
I would open a ticket in the queue *billing* and ask for the number of the     | \
I would open a ticket in the queue *billing* and ask for the number of the
invoice.                                                                       | invoice.
                                                                               |
1. look up the customer                                                        | \
1. look up the customer
    then the invoice                                                           | \
    then the invoice
Step 10.                                                                       | Step final.
>""",
}


@pytest.mark.parametrize("columns", COMPARED)
def test_two_models_are_compared(terminal: Any, job: str, columns: int) -> None:
    shown = begin(terminal, "triage@10", columns=columns)
    say(shown, "/compare triage")
    assert "Your questions go to triage@10 and" in shown.text
    say(shown, "ticket")
    assert shown.text.partition("> ticket\n")[2] == COMPARED[columns]


def test_each_of_two_models_is_sent_its_own_answers(terminal: Any, job: str) -> None:
    shown = begin(terminal, "triage@10", columns=160)
    say(shown, "one")
    say(shown, "/compare triage@20")
    say(shown, "two")
    say(shown, "three")
    heading = shown.text.rpartition("> three")[2].split("\n")[3]
    assert "10 was sent: one / 10 was sent: one / two / 10 was sent" in heading
    assert "| 20 was sent: one / 10 was sent: one / two / 20 was sent" in heading
    say(shown, "/compare")
    assert "Your questions go to triage@10." in shown.text
    say(shown, "four")
    assert "|" not in shown.text.rpartition("> four")[2]


def gated(before: str, after: str, gate: threading.Event) -> Iterator[str]:
    yield before
    assert gate.wait(PATIENCE)
    yield after


def test_columns_fit_a_window_that_is_resized_during_the_answers(
    terminal: Any, emulator: Emulator
) -> None:
    gate = threading.Event()
    ended(emulator, lambda *_: gated("before " * 40, "after " * 40, gate))
    shown = begin(terminal, "triage", "--max-tokens", "2000", columns=160)
    say(shown, "/compare triage")
    type_line(shown, "go")
    shown.until("before before")
    shown.resize(80, 60)
    gate.set()
    wait_for_prompt(shown)
    rows = [line for line in shown.screen if "after" in line]
    assert len(rows) > 5
    assert all(line[38:41] == " | " for line in rows)
    assert all(not line.startswith("|") for line in shown.screen)  # no row was wrapped


def test_an_answer_is_shown_as_it_comes(terminal: Any, emulator: Emulator) -> None:
    gate = threading.Event()
    ended(emulator, lambda *_: gated("First ", "second.", gate))
    shown = begin(terminal, "triage")
    type_line(shown, "go")
    shown.until(lambda: last_line(shown) == "First")
    gate.set()
    shown.until("First second.")


def test_ctrl_c_stops_only_the_answer(terminal: Any, emulator: Emulator, job: str) -> None:
    shown = begin(terminal, "triage@10")
    emulator.faults.add(Fault("blackhole", route="chat", index=4))
    type_line(shown, "one")
    shown.until("10 was sent:")
    shown.press("ctrl-c")
    wait_for_prompt(shown)
    say(shown, "two")
    assert "10 was sent: one / 10 was sent:  / two" in shown.text
    shown.press("ctrl-d")
    assert shown.wait() == 0


def test_ctrl_c_before_an_answer_leaves_the_question_for_retry(
    terminal: Any, emulator: Emulator, job: str
) -> None:
    shown = begin(terminal, "triage@10")
    emulator.faults.add(Fault("stall_before_headers", route="chat"))
    type_line(shown, "one")
    emulator.wait_for(lambda: emulator.faults.fired() == 1)
    shown.press("ctrl-c")
    wait_for_prompt(shown)
    say(shown, "/retry")
    assert "10 was sent: one" in shown.text


def test_ctrl_c_during_a_comparison_shows_what_came(terminal: Any, emulator: Emulator) -> None:
    gate = threading.Event()
    ended(emulator, lambda *_: gated("a line\nand a part", "", gate))
    shown = begin(terminal, "triage@10")
    say(shown, "/compare triage")
    type_line(shown, "one")
    shown.until("| a line")
    shown.press("ctrl-c")
    wait_for_prompt(shown)
    assert shown.text.partition("> one\n")[2].split("\n")[2:] == [
        "a line                                 | a line",
        "^C",
        "and a part                             | and a part",
        "",
        ">",
    ]
    gate.set()


def test_ctrl_c_instead_of_a_question_ends_it_at_the_second_time(terminal: Any, job: str) -> None:
    shown = begin(terminal, "triage")
    shown.press("not sent")
    shown.until("> not sent")
    shown.press("ctrl-c")
    shown.until("Ctrl-C again ends the conversation")
    wait_for_prompt(shown)
    say(shown, "one")
    assert "final was sent: one" in shown.text
    shown.press("ctrl-c")
    shown.until(lambda: shown.text.count("Ctrl-C again") == 2)
    wait_for_prompt(shown)
    shown.press("ctrl-c")
    assert shown.wait() == 130


def test_an_error_of_the_cloud_is_told_and_the_conversation_goes_on(
    terminal: Any, emulator: Emulator, job: str
) -> None:
    shown = begin(terminal, "triage@10", columns=120)
    say(shown, "one")
    emulator.faults.add(Fault("status", route="chat", status=503, value="no\x1b[31m room"))
    say(shown, "two")
    assert "arkor-sync: " in shown.text
    assert "no room" in shown.text
    assert "/retry asks it again" in shown.text
    say(shown, "/retry")
    assert shown.screen.count("10 was sent: one / 10 was sent: one / two") == 1


def test_an_error_of_one_of_two_models_leaves_the_answer_of_the_other(
    terminal: Any, emulator: Emulator, job: str
) -> None:
    shown = begin(terminal, "triage@10", columns=120)
    say(shown, "/compare triage@7")
    say(shown, "one")
    assert "10 was sent: one" in shown.text
    assert "triage@7: the job 'triage' has no checkpoint at step 7" in shown.text
    say(shown, "/compare nope")
    assert "no job of this project has the id or the name 'nope'" in shown.text
    say(shown, "/compare")
    say(shown, "/retry")
    assert "10 was sent: one" in shown.text.rpartition("/retry")[2]


def test_an_unknown_command_is_not_sent_to_the_model(
    terminal: Any, emulator: Emulator, job: str
) -> None:
    shown = begin(terminal, "triage")
    say(shown, "/nope")
    assert "There is no '/nope'. There are /system, /compare" in shown.text
    shown.press("   ")
    shown.press("enter")
    assert [each for each in emulator.requests if each.route == "chat"] == []
    say(shown, " /nope is what I ask")
    assert "final was sent: /nope is what I ask" in shown.text


@pytest.mark.parametrize("columns", [40, 80])
def test_help_fits_the_window(terminal: Any, job: str, columns: int) -> None:
    shown = begin(terminal, "triage", columns=columns)
    say(shown, "/help")
    text = " ".join(shown.text.partition("> /help")[2].split())
    for words in ("/compare JOB@STEP", "forget the last question", "Ctrl-C stops an answer."):
        assert words in text
    printed = shown.printed.decode().rpartition("/help")[2].splitlines()
    assert max(map(len, printed)) <= columns


def test_questions_of_several_lines(terminal: Any, job: str) -> None:
    shown = begin(terminal, "triage")
    type_line(shown, "one\\")
    shown.until(lambda: last_line(shown) == ".")
    say(shown, "two")
    assert "final was sent: one\ntwo" in shown.text
    say(shown, "/reset")
    shown.press("\x1b[200~three\nfour\x1b[201~")  # what a terminal sends for a paste
    shown.until("four")
    shown.press("enter")
    shown.until("final was sent: three\nfour")
    assert b"\x1b[?2004h" in shown.printed  # it was told to mark what is pasted


def test_what_was_typed_before_comes_back_and_commands_are_completed(
    terminal: Any, job: str
) -> None:
    shown = begin(terminal, "triage")
    say(shown, "one")
    shown.press("up")
    shown.until(lambda: last_line(shown) == "> one")
    shown.press("!")
    say(shown, "")
    assert "final was sent: one / final was sent: one / one!" in shown.text
    shown.press("/re\t\t")
    shown.until("/reset")
    shown.press("s\t")
    say(shown, "")
    assert "All questions and answers are forgotten." in shown.text


def test_what_a_model_says_never_acts_on_the_terminal(terminal: Any, emulator: Emulator) -> None:
    pieces = ["safe \x1b", "[2", "J\x1b]0;ow", "ned\x07text"]
    job_id = ended(emulator, lambda *_: iter(pieces), "evil\x1b[2J\njob")
    shown = begin(terminal, job_id)
    say(shown, "one")
    assert shown.screen[:3] == [
        "You are talking to evil job. /help shows the commands; Ctrl-D ends.",
        "> one",
        "safe text",
    ]
    assert b"owned" not in shown.printed


STYLES = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.mark.parametrize("no_color", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
def test_it_reads_on_a_dark_and_on_a_light_screen(
    terminal: Any, job: str, no_color: Dict[str, str]
) -> None:
    shown = begin(terminal, "triage@10", **no_color)
    say(shown, "/compare triage")
    say(shown, "one")
    used: List[str] = STYLES.findall(shown.printed.decode())
    assert set(used) <= {"", "0", "1"}  # no colour that one of the two does not show
    assert bool(used) or bool(no_color)


def test_a_conversation_needs_a_terminal(terminal: Any, job: str) -> None:
    shown = terminal("chat", "triage", "--json")
    assert shown.wait() == 2
    assert "no PROMPT" in shown.text
