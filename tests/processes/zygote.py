"""A process that forks a child for each order that it reads, and tells how a child ended.

The child runs one scenario, and ends as every interpreter does.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any, Dict, Optional

from process_state import process_state

STATE = process_state()  # before anything of the library is imported

import fork_scenarios  # noqa: E402, F401
import scenarios  # noqa: E402


def become_child() -> Optional[Dict[str, Any]]:
    """Obey orders; return the order in each child, and None when there are no more."""
    for line in sys.stdin:
        order: Dict[str, Any] = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            return order
        print(pid, flush=True)
    return None


def main() -> None:
    order = become_child()
    if order is None:
        return
    signal.alarm(scenarios.LIFETIME)
    redirect(0, os.devnull, os.O_RDONLY)
    redirect(1, os.path.join(order["directory"], "out"), os.O_WRONLY | os.O_APPEND)
    redirect(2, os.path.join(order["directory"], "err"), os.O_WRONLY | os.O_APPEND)
    scenarios.state_at_start = STATE
    module = importlib.import_module(order["module"])
    getattr(module, order["scenario"])(*order["arguments"])


def redirect(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    main()
