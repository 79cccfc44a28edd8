"""Signals of Django about runs. Runs on the worker thread.

Each is sent with `sender=Run`, `run` and `ctx`, the context of the callback. It is sent in the
transaction that also has the run's row, what the callbacks write, and the position. What a receiver
raises is handled as the exception of a callback: nothing of the event is written then.
"""

from __future__ import annotations

from django.dispatch import Signal

run_started = Signal()
run_log = Signal()
run_checkpoint = Signal()
run_completed = Signal()
run_failed = Signal()
run_cancelled = Signal()
