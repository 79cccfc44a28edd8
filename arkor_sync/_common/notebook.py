"""The notebook that this process may be the kernel of. Any thread."""

from __future__ import annotations

import sys
from typing import Any


def notebook_shell() -> Any:
    """Return the IPython shell of a Jupyter kernel, or None elsewhere. It imports nothing.

    It never raises: another thread may be importing IPython, or something else may have its name.
    """
    try:
        get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
        shell = None if get_ipython is None else get_ipython()
        return shell if shell is not None and "IPKernelApp" in shell.config else None
    except Exception:
        return None
