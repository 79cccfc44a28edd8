"""The notebook that this process may be the kernel of. Any thread."""

from __future__ import annotations

import sys
from typing import Any


def notebook_shell() -> Any:
    """Return the IPython shell of a Jupyter kernel, or None elsewhere. It imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and "IPKernelApp" in shell.config else None
