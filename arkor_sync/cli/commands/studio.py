"""`studio`: the jobs and models of the project, in a browser. Runs on the caller's thread."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Optional

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import make_client
from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from pathlib import Path

    from arkor_sync.studio.server import StudioServer

_PORT = 4000
_UNUSABLE = {errno.EADDRINUSE: "it is in use", errno.EACCES: "it is the administrator's"}


@command(
    root,
    "studio",
    examples="""
    arkor-sync studio --open
    arkor-sync studio --port 0 bots/support.py
    arkor-sync emulator exec -- arkor-sync studio --open
    """,
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PORT,
    metavar="PORT",
    help=f"The port on 127.0.0.1; {_PORT} by default, and 0 for a free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.argument("file", required=False)
def studio(output: Output, port: int, opens: bool, file: Optional[str]) -> None:
    """Show jobs, models and endpoints in a browser.

    It prints a URL for this machine alone, and serves it until Ctrl-C or SIGTERM, then with exit
    code 0. Whoever has the URL may do what you may, and run FILE: keep it to yourself. The next
    start has another one.

    FILE is what the page's run button starts, as `arkor-sync start FILE` does: trainer.py by
    default. Such a run ends with this command; its job goes on. It needs the extra `studio`.
    """
    from arkor_sync._common.extras import import_extra
    from arkor_sync.cli.child import signals_to

    import_extra("flask", "studio", "Studio")
    import_extra("waitress", "studio", "Studio")
    ending = (signal.SIGINT, signal.SIGTERM)
    with _server(port, _checked(file)) as server, signals_to(lambda _: server.close(), ending):
        if output.as_json:
            output.json({"url": server.url})
        else:
            output.line(server.url)
            output.note("Studio is served there; Ctrl-C or SIGTERM stops it")
        if opens:
            from arkor_sync._common.browser import can_open, open_page

            if can_open():
                open_page(server.url)
            else:
                output.note("there is no screen to open a browser on: open the URL elsewhere")
        server.run()


def _checked(file: Optional[str]) -> Path:
    """Return the file to run. That of the default may be made later."""
    from pathlib import Path

    from arkor_sync.manifest import DEFAULT_FILE
    from arkor_sync.studio.local_run import LocalRun

    path = Path(DEFAULT_FILE if file is None else file)
    if file is not None and LocalRun(path).file() is None:
        raise click.UsageError(
            f"{safe_line(file)}: no Python file of the working directory; give FILE.py, or go to "
            "its directory first"
        )
    return path


def _server(port: int, file: Path) -> StudioServer:
    from arkor_sync.studio.server import StudioServer

    try:
        return StudioServer(make_client(), port, file)
    except OSError as error:
        reason = _UNUSABLE.get(error.errno or 0)
        if reason is None:
            raise
        free = f"--port {port + 1}, or " if 1024 <= port < 65535 else ""
        raise click.UsageError(
            f"port {port} cannot be used: {reason}; give {free}--port 0 for a free one"
        ) from error
