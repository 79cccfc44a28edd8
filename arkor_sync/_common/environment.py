"""The environment variables of the process. Any thread.

White space around a value is removed, here and around the secrets that a program gives: it comes
from the newline at the end of a file or of what `echo` wrote, and is never meant.

A variable that is empty counts as one that is not set: `NAME=` in a file of variables, or a secret
of a CI system that is not there for this job, means that there is no value.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Dict, Mapping, Optional


def variable(name: str) -> Optional[str]:
    """Return the value of an environment variable, without white space around it.

    Returns:
        The value; None if the variable is not set or empty.
    """
    return os.environ.get(name, "").strip() or None


def environment_with(more: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment for a child process: that of this one, with more variables."""
    return {**os.environ, **more}


def home_directory() -> str:
    """Return the user's home directory, looked up at each call; `~` if there is none."""
    # With an empty HOME, expanduser returns the root of the file system.
    if "HOME" in os.environ and variable("HOME") is None and os.name == "posix":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(os.getuid()).pw_dir
        return "~"
    return os.path.expanduser("~")
