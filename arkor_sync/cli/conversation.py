"""A conversation with one model, or with two at a time, and its commands. Pure."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

PROMPT = "> "
PROMPT_WITHIN = ". "

COMMANDS: Dict[str, str] = {
    "/system TEXT": "set the system message; without TEXT, remove it",
    "/compare JOB@STEP": "ask a second model the same questions; without a name, end that",
    "/retry": "ask the last question again, in the place of its answer",
    "/undo": "forget the last question and its answer",
    "/reset": "forget all questions and answers; the system message stays",
    "/help": "show this",
    "/quit": "end the conversation, as Ctrl-D does",
}
"""The commands, each with what it takes, and what they do."""

NAMES = tuple(usage.split()[0] for usage in COMMANDS)

KEYS = (
    'A question of several lines begins and ends with """, or has a \\ at the end of each line but '
    "the last. A line that begins with a space is always a question. Ctrl-C stops an answer."
)


class Turn(NamedTuple):
    """A question and its answers, one from each model that was asked."""

    question: str
    answers: Tuple[str, ...]


class Conversation:
    """What was said. All of it is sent with the next question.

    Args:
        system: The system message, or None.

    Attributes:
        system: The system message, or None.
        turns: The questions that have been answered, the oldest first.
        unanswered: The last question, if it got no answer. It is not sent again by itself.
    """

    def __init__(self, system: Optional[str] = None) -> None:
        self.system = system
        self.turns: List[Turn] = []
        self.unanswered: Optional[str] = None

    def messages(self, question: str, number: int = 0) -> List[Dict[str, str]]:
        """Return what to send to a model.

        Args:
            question: The next question.
            number: Which of the models that are compared.
        """
        said = [("system", self.system)] if self.system else []
        for turn in self.turns:
            said += [("user", turn.question), ("assistant", turn.answers[number])]
        said.append(("user", question))
        return [{"role": role, "content": content} for role, content in said]

    def answered(self, question: str, answers: Sequence[str]) -> None:
        """Keep a question and its answers."""
        self.turns.append(Turn(question, tuple(answers)))
        self.unanswered = None

    def undo(self) -> Optional[str]:
        """Forget the last question, with its answers; return it, or None if there is none."""
        question, self.unanswered = self.unanswered, None
        if question is None and self.turns:
            question = self.turns.pop().question
        return question

    def reset(self) -> None:
        """Forget all questions and answers."""
        self.turns, self.unanswered = [], None

    def for_models(self, count: int) -> None:
        """Go on with so many models. Each one knows what the first has answered until now."""
        self.turns = [Turn(turn.question, turn.answers[:1] * count) for turn in self.turns]


def read_entry(read: Callable[[str], str]) -> str:
    """Read a question or a command, of one line or several.

    Args:
        read: Reads a line; it is called with the prompt.
    """
    line = read(PROMPT)
    if line.lstrip().startswith('"""'):
        text = line.lstrip()[3:]
        while not text.rstrip().endswith('"""'):
            text += "\n" + read(PROMPT_WITHIN)
        return " " + text.rstrip()[:-3].strip("\n")
    while line.endswith("\\"):
        line = line[:-1] + "\n" + read(PROMPT_WITHIN)
    return line


def split_command(entry: str) -> Tuple[str, str]:
    """Return the command and its argument, or an empty text and the question."""
    if not entry.startswith("/"):
        return "", entry.strip()
    name, *argument = entry.split(None, 1)
    return name, "".join(argument).strip()
