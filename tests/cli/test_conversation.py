"""What is sent with a question, and what a line that was typed means."""

from __future__ import annotations

from typing import Callable, List, Tuple

import pytest

from arkor_sync.cli.conversation import Conversation, read_entry, split_command


def contents(conversation: Conversation, question: str, number: int = 0) -> List[str]:
    return [message["content"] for message in conversation.messages(question, number)]


def test_all_that_was_said_is_sent_with_the_next_question() -> None:
    conversation = Conversation("Be kind")
    conversation.answered("Hello", ["Hi"])
    assert conversation.messages("How are you?") == [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "How are you?"},
    ]


def test_each_of_two_models_is_sent_its_own_answers() -> None:
    conversation = Conversation()
    conversation.answered("one", ["1"])
    conversation.for_models(2)
    conversation.answered("two", ["2", "II"])
    assert contents(conversation, "three", 0) == ["one", "1", "two", "2", "three"]
    assert contents(conversation, "three", 1) == ["one", "1", "two", "II", "three"]
    conversation.for_models(1)
    assert contents(conversation, "three") == ["one", "1", "two", "2", "three"]


def test_the_answers_of_a_model_that_is_replaced_are_not_sent_to_the_next() -> None:
    conversation = Conversation()
    conversation.for_models(2)
    conversation.answered("one", ["1", "I"])
    conversation.for_models(2)
    assert contents(conversation, "two", 1) == ["one", "1", "two"]


def test_undo_forgets_a_question_without_an_answer_before_one_that_has_one() -> None:
    conversation = Conversation()
    conversation.answered("one", ["1"])
    conversation.unanswered = "two"
    assert contents(conversation, "three") == ["one", "1", "three"]
    assert [conversation.undo() for _ in range(3)] == ["two", "one", None]
    assert contents(conversation, "three") == ["three"]


def test_reset_keeps_the_system_message() -> None:
    conversation = Conversation("Be kind")
    conversation.answered("one", ["1"])
    conversation.unanswered = "two"
    conversation.reset()
    assert conversation.undo() is None
    assert contents(conversation, "three") == ["Be kind", "three"]


def lines(*typed: str) -> Callable[[str], str]:
    left = list(typed)

    def read(_prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return read


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["Hello"], ("", "Hello")),
        (["  "], ("", "")),
        (["/reset"], ("/reset", "")),
        (["/system  Be kind "], ("/system", "Be kind")),
        (["/system", "not read"], ("/system", "")),
        (["/system Be\\", "kind"], ("/system", "Be\nkind")),
        ([" /reset is a command"], ("", "/reset is a command")),
        (["one\\", "two\\", "three"], ("", "one\ntwo\nthree")),
        (['"""one', "", '  two"""'], ("", "one\n\n  two")),
        (['"""', "/one", '"""'], ("", "/one")),
        (['"""one"""'], ("", "one")),
        (["pasted\n/lines"], ("", "pasted\n/lines")),
        (["/nope\nline"], ("/nope", "line")),
    ],
)
def test_what_a_typed_line_means(typed: List[str], meant: Tuple[str, str]) -> None:
    assert split_command(read_entry(lines(*typed))) == meant


def test_the_end_of_the_input_within_a_question_ends_the_conversation() -> None:
    with pytest.raises(EOFError):
        read_entry(lines('"""one', "two"))
