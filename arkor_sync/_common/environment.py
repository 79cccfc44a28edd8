"""The environment variables of the process. Any thread.

White space around a value is removed, here and around the secrets that a program gives: it comes
from the newline at the end of a file or of what `echo` wrote, and is never meant.
"""

from __future__ import annotations

import os
from typing import Optional


def variable(name: str) -> Optional[str]:
    """Return the value of an environment variable, without white space around it.

    Returns:
        The value, which may be empty; None if the variable is not set.
    """
    value = os.environ.get(name)
    return None if value is None else value.strip()
