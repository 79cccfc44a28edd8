"""What a library must leave alone, because it belongs to the whole process."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Any, Dict


def process_state() -> Dict[str, Any]:
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup descriptor": signal.set_wakeup_fd(-1),
        "exception hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "switch interval": sys.getswitchinterval(),
    }
