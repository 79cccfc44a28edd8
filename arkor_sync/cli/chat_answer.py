"""An answer of a model, harmless and as it comes. Runs on the caller's thread."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Dict, Generator, List, Mapping, Optional, Sequence

from arkor_sync.cli.chat_target import Target, explain_missing
from arkor_sync.cli.columns import LEAST_WIDTH, Columns
from arkor_sync.cli.output import console
from arkor_sync.cli.safe_stream import SafeStream
from arkor_sync.errors import ArkorError, NotFoundError

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.client import CloudApiClient

Messages = List[Dict[str, str]]


class Answer:
    """The answer to one question. It is asked when its pieces are first read.

    Args:
        client: Asks.
        target: The model.
        messages: What to send.
        options: More arguments of `client.chat`.

    Attributes:
        target: The model.
        error: What ended the answer too early, or None.
        finish_reason: Why the answer ended, as the model says; None if that is not known.
    """

    def __init__(
        self, client: CloudApiClient, target: Target, messages: Messages, options: Mapping[str, Any]
    ) -> None:
        self.target = target
        self.error: Optional[ArkorError] = None
        self.finish_reason: Optional[str] = None
        self._client = client
        self._messages = messages
        self._options = options
        self._received: List[str] = []

    @property
    def text(self) -> str:
        """What has been received, as the model wrote it: to be sent again, not to be shown."""
        return "".join(self._received)

    def pieces(self) -> Generator[str, None, None]:
        """Yield the text in pieces that can be shown; an error ends them, and is kept."""
        safe = SafeStream()
        try:
            with self._ask(stream=True) as response:
                for piece in response:
                    self._received.append(piece)
                    yield safe.feed(piece)
                self.finish_reason = response.finish_reason
        except ArkorError as error:
            self.error = error
        yield safe.end()

    def whole(self) -> Dict[str, Any]:
        """Return the answer at its end, as JSON.

        Raises:
            ArkorError: There is no whole answer.
        """
        with self._ask(stream=False) as response:
            return {
                "answer": response.content(),
                "finish_reason": response.finish_reason,
                "usage": response.usage,
            }

    def notes(self) -> List[str]:
        """Return what there is to say of an answer that has ended, but for its error."""
        if self.error is not None:
            return ["the answer above is not complete"] if self.text else []
        if self.finish_reason == "length":
            return ["the answer was cut at the limit of tokens (--max-tokens)"]
        return [] if self.text else ["the answer is empty"]

    def _ask(self, *, stream: bool) -> ChatResponse:
        try:
            return self._client.chat(
                self._messages, **self.target.arguments, **self._options, stream=stream
            )
        except NotFoundError as error:
            raise explain_missing(self._client, self.target, error) from None


def write_answer(output: Output, answer: Answer) -> None:
    """Print an answer as it comes, and end its line.

    After a Ctrl-C in a terminal the line is not ended: the terminal has written ^C on it.
    """
    last = "\n"
    try:
        with closing(answer.pieces()) as pieces:
            for piece in filter(None, pieces):
                output.write(piece)
                last = piece[-1]
    except KeyboardInterrupt:
        if output.is_terminal:
            last = "\n"
        raise
    finally:
        if last != "\n":
            output.write("\n")


def write_compared(output: Output, answers: Sequence[Answer]) -> None:
    """Print answers beside each other as they come, or one below the other where it is narrow."""
    from rich.text import Text

    if len(answers) > 1 and terminal_width() < LEAST_WIDTH:
        for answer in answers:
            write_compared(output, [answer])
        return
    columns = Columns([answer.target.name for answer in answers])
    heading = Text("\n".join(columns.heading(terminal_width())), "bold")
    console().print(heading, soft_wrap=True)

    def write_rows() -> None:
        for row in columns.rows(terminal_width()):
            output.write(f"{row}\n")

    with ExitStack() as stack:
        unread = {
            number: stack.enter_context(closing(answer.pieces()))
            for number, answer in enumerate(answers)
        }
        try:
            while unread:
                for number, pieces in list(unread.items()):
                    piece = next(pieces, None)
                    if piece is None:
                        del unread[number]
                        columns.end(number)
                    else:
                        columns.feed(number, piece)
                    write_rows()
        except KeyboardInterrupt:
            output.write("\n")  # below the ^C that the terminal has shown
            for number in unread:
                columns.end(number)
            write_rows()
            raise


def terminal_width() -> int:
    """Return the columns of the terminal now, whatever the environment says of its start."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80
