"""A conversation in a terminal. Runs on the caller's thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.chat_answer import (
    Answer,
    terminal_width,
    write_answer,
    write_compared,
)
from arkor_sync.cli.chat_target import Target, find_target
from arkor_sync.cli.conversation import (
    COMMANDS,
    KEYS,
    NAMES,
    Conversation,
    read_entry,
    split_command,
)
from arkor_sync.cli.output import survive_encoding
from arkor_sync.errors import ArkorError

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.client import CloudApiClient


class ChatScreen:
    """Reads questions and commands, and shows the answers, until the user ends it.

    An error of the cloud is shown, and the conversation goes on without the question; `/retry` asks
    it again. An answer that Ctrl-C stopped is kept as far as it came.

    Args:
        output: Prints.
        client: Asks the cloud.
        target: The model.
        system: The system message, or None.
        options: More arguments of `client.chat`.
    """

    def __init__(
        self,
        output: Output,
        client: CloudApiClient,
        target: Target,
        system: Optional[str],
        options: Mapping[str, Any],
    ) -> None:
        self._output = output
        self._client = client
        self._targets = [target]
        self._conversation = Conversation(system)
        self._options = options
        self._commands: Dict[str, Callable[[str], None]] = {
            "": self._ask,
            "/system": self._set_system,
            "/compare": self._compare,
            "/retry": self._retry,
            "/undo": self._undo,
            "/reset": self._reset,
            "/help": self._help,
        }

    def run(self) -> None:
        """Talk until `/quit` or Ctrl-D, or until Ctrl-C is pressed twice instead of a question.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        _edit_lines()
        name = self._targets[0].name
        self._output.line(f"You are talking to {name}. /help shows the commands; Ctrl-D ends.")
        interrupted = False
        while True:
            try:
                name, argument = split_command(read_entry(input))
            except EOFError:
                self._output.line()
                return
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._output.line("\nCtrl-C again ends the conversation, and so does Ctrl-D.")
                continue
            interrupted = False
            if name == "/quit":
                return
            self._do(name, argument)

    def _do(self, name: str, argument: str) -> None:
        try:
            if name in self._commands:
                self._commands[name](argument)
            else:
                known = ", ".join(NAMES)
                self._output.note(f"There is no {safe_line(name, 40)!r}. There are {known}.")
        except KeyboardInterrupt:
            self._output.line()  # below the ^C that the terminal has shown
        except ArkorError as error:
            self._output.note(f"arkor-sync: {safe_line(error, 1000)}")

    def _ask(self, question: str) -> None:
        if not question:
            return
        conversation = self._conversation
        conversation.unanswered = question
        answers = [
            Answer(self._client, target, conversation.messages(question, number), self._options)
            for number, target in enumerate(self._targets)
        ]
        try:
            if len(answers) == 1:
                write_answer(self._output, answers[0])
            else:
                write_compared(self._output, answers)
        except KeyboardInterrupt:
            if all(answer.text for answer in answers):
                self._keep(question, answers)
            raise
        self._tell_of(answers)
        if all(answer.error is None for answer in answers):
            self._keep(question, answers)

    def _keep(self, question: str, answers: List[Answer]) -> None:
        self._conversation.answered(question, [answer.text for answer in answers])

    def _tell_of(self, answers: List[Answer]) -> None:
        failed = False
        for answer in answers:
            of = f"{answer.target.name}: " if len(answers) > 1 else ""
            for note in answer.notes():
                self._output.note(f"{of}{note}")
            if answer.error is not None:
                self._output.note(f"arkor-sync: {of}{safe_line(answer.error, 1000)}")
                failed = True
        if failed:
            self._output.note("The question is not part of the conversation; /retry asks it again.")

    def _set_system(self, text: str) -> None:
        self._conversation.system = text or None
        self._output.line("The system message is set." if text else "There is no system message.")

    def _compare(self, text: str) -> None:
        targets = self._targets[:1]
        if text:
            targets.append(find_target(self._client, text, self._output))
        self._conversation.for_models(len(targets))
        self._targets = targets
        names = " and ".join(target.name for target in targets)
        self._output.line(f"Your questions go to {names}.")

    def _retry(self, _: str) -> None:
        question = self._conversation.undo()
        if question is None:
            self._output.note("There is no question to ask again.")
        else:
            self._ask(question)

    def _undo(self, _: str) -> None:
        question = self._conversation.undo()
        self._output.line(
            "There is nothing to forget."
            if question is None
            else f"Forgotten: {safe_line(question, 60)}"
        )

    def _reset(self, _: str) -> None:
        self._conversation.reset()
        self._output.line("All questions and answers are forgotten.")

    def _help(self, _: str) -> None:
        formatter = click.HelpFormatter(width=min(terminal_width(), 80))
        formatter.write_dl(list(COMMANDS.items()))
        formatter.write_paragraph()
        formatter.write_text(KEYS)
        self._output.line(formatter.getvalue().rstrip())


def _edit_lines() -> None:
    """Let `input` edit lines, remember them, and complete the commands, where Python can."""
    survive_encoding(sys.stdin)
    try:
        import readline
    except ImportError:
        return

    def complete(text: str, number: int) -> Optional[str]:
        fitting = [name for name in NAMES if text and name.startswith(text)]
        return fitting[number] if number < len(fitting) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    if "libedit" in (readline.__doc__ or ""):
        readline.parse_and_bind("bind ^I rl_complete")
    else:
        readline.parse_and_bind("tab: complete")
        readline.parse_and_bind("set enable-bracketed-paste on")  # pasted lines are one question
