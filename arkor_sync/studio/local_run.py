"""The trainer's file of this machine, and the one run of it that a page may start. Any thread.

Whoever may call this may run code: only the server on the loopback has it. All processes end with
the server; a job that was submitted goes on in the cloud.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import List, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.threads import OwnThread
from arkor_sync.studio.child import Child
from arkor_sync.studio.lately import Lately
from arkor_sync.studio.run_output import RunOutput
from arkor_sync.studio.trainer_facts import TrainerFacts, start_reading, told_by

GRACE = 0.5
"""Seconds that a program gets to end at the server's end."""

_READING = 30.0  # seconds that a file may take to be read
_TAIL = 1.0  # seconds that are waited for the last output
_BLOCK = 65_536  # bytes
_SUBMITTED = re.compile(r"job ([\w.-]{1,200}) \(.*\) is submitted")  # as `arkor-sync start` says


@dataclass(frozen=True)
class RunView:
    """A run, as a page shows it.

    Attributes:
        number: The number of the run, from 1.
        began: When it began, as the wire has times.
        job_id: The job that it has submitted; None if that is not known.
        running: Whether its process runs.
        leaving: Whether it was asked to end.
        code: The exit code; None while it runs, and if it never did.
        start: The number of the first of the lines.
        lines: Lines of its output.
        open: The line that is not ended yet; empty if more lines are to be asked for.
    """

    number: int
    began: str
    job_id: Optional[str]
    running: bool
    leaving: bool
    code: Optional[int]
    start: int
    lines: List[str]
    open: str


class LocalRun:
    """Starts `arkor-sync start` for the trainer's file, and shows what it prints.

    Args:
        file: The file; it may be made later.
    """

    def __init__(self, file: Path) -> None:
        self._folder = Path.cwd()
        self._given = self._folder / file
        self._facts = Lately(self._read_facts)
        self._lock = threading.Lock()
        self._run: Optional[_Run] = None
        self._reading: Optional[Child] = None
        self._closed = False

    @property
    def shown_name(self) -> str:
        """The name of the file, as it is shown."""
        return self._given.name

    def file(self) -> Optional[Path]:
        """Return the file without links; None if there is none within the working directory."""
        with suppress(OSError, ValueError, RuntimeError):  # a circle of links
            found = self._given.resolve(strict=True)
            found.relative_to(self._folder.resolve())
            if found.is_file() and found.suffix == ".py":
                return found
        return None

    def trainer(self, patience: float) -> Optional[TrainerFacts]:
        """Return what the file trains, as it was read last; None if that takes longer.

        A child process reads it when it has changed. What it imports may change unseen.

        Args:
            patience: Seconds.
        """
        file = self.file()
        if file is None:
            return None
        with suppress(OSError):
            facts = file.stat()
            return self._facts.read((file, facts.st_mtime_ns, facts.st_size), patience)
        return None

    def start(self) -> bool:
        """Start the file, unless a run goes on; return whether it was started."""
        file = self.file()
        with self._lock:
            goes_on = self._run is not None and self._run.running
            if file is None or goes_on or self._closed:
                return False
            number = 1 if self._run is None else self._run.number + 1
            self._run = _Run(number, file, self._folder)
            return True

    def view(self, start: Optional[int] = None, most: int = 500) -> Optional[RunView]:
        """Return the last run; None if there is none.

        Args:
            start: The number of the first line; None for the last ones.
            most: The most lines.
        """
        run = self._run
        return None if run is None else run.view(start, most)

    def leave(self) -> None:
        """Stop following: ask the program to end; the second time, end it. The job goes on."""
        run = self._run
        if run is not None:
            run.leave()

    def begin_to_close(self) -> None:
        """Ask all processes to end, and start no more."""
        with self._lock:
            again, self._closed = self._closed, True
        for child in [] if again else self._children():
            child.leave()

    def close(self) -> None:
        """End all processes."""
        self.begin_to_close()
        end = Clock.now() + GRACE
        for child in self._children():
            child.wait(max(0.0, end - Clock.now()))
            child.kill()  # also what it has started

    def _children(self) -> List[Child]:
        run = self._run
        running = [run.child] if run is not None and run.child is not None and run.running else []
        return [*running, *([self._reading] if self._reading is not None else [])]

    def _read_facts(self, key: Tuple[Path, int, int]) -> TrainerFacts:
        try:
            with self._lock:
                if self._closed:
                    return TrainerFacts(problem="the server ends")
                child = self._reading = start_reading(key[0], self._folder)
            try:
                return told_by(child, _READING)
            finally:
                self._reading = None
        except OSError as error:
            return TrainerFacts(problem=f"no process can be started: {error.strerror}")


class _Run:
    """One run. Two threads follow it: one reads the output, one waits for the end."""

    def __init__(self, number: int, file: Path, folder: Path) -> None:
        self.number = number
        self.child: Optional[Child] = None
        self.running = False
        self._began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._job_id: Optional[str] = None
        self._leaving = False
        self._code: Optional[int] = None
        self._output = RunOutput()
        self._lock = threading.Lock()
        try:
            self.child = Child(["arkor_sync", "start", str(file)], folder, subprocess.STDOUT)
        except OSError as error:
            self._output.feed(f"no process can be started: {error.strerror}\n".encode())
            return
        self.running = True
        OwnThread(self._wait, "arkor-studio-run").start()

    def view(self, start: Optional[int], most: int) -> RunView:
        """Return what a page shows."""
        with self._lock:
            after = self._output.next
            first = max(self._output.first, after - most if start is None else max(0, start))
            lines = self._output.lines(first, most)
            at_the_end = first + len(lines) >= after
            return RunView(
                self.number,
                self._began,
                self._job_id,
                self.running,
                self._leaving,
                self._code,
                first,
                lines,
                self._output.open if at_the_end else "",
            )

    def leave(self) -> None:
        """Ask the program to end; the second time, end it."""
        with self._lock:
            if self.child is None or not self.running:
                return
            again, self._leaving = self._leaving, True
        if again:
            self.child.kill()
        else:
            self.child.leave()

    def _wait(self) -> None:
        assert self.child is not None
        reader = OwnThread(self._read, "arkor-studio-output")
        reader.start()
        code = self.child.wait()
        self.child.kill()  # what it has started: that would hold the output open
        reader.join(_TAIL)
        with self._lock:
            self._output.end()
            self._code, self.running = code, False

    def _read(self) -> None:
        assert self.child is not None
        with self.child.output as output:
            for data in iter(lambda: os.read(output.fileno(), _BLOCK), b""):
                with self._lock:
                    for line in self._output.feed(data):
                        found = _SUBMITTED.fullmatch(line)
                        if found and self._job_id is None:
                            self._job_id = found[1]
