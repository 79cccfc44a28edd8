"""`doctor`: what this machine has, and what would be used. Runs on the caller's thread."""

from __future__ import annotations

import platform

from arkor_sync._version import __version__
from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root


@command(root, "doctor", examples="arkor-sync doctor")
def doctor(output: Output) -> None:
    """Check versions, variables, files and the way to the cloud; no secret is shown."""
    output.facts({"arkor-sync": __version__, "python": platform.python_version()})
