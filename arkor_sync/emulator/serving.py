"""A local Arkor for other processes, from the command line. Runs on the caller's thread.

`python -m arkor_sync.emulator` and `arkor-sync emulator` are made of these.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional

from arkor_sync.emulator.emulator import Emulator
from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.engine.lora.engine import LoraEngine
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.engine.scenarios import SCENARIOS, scenario
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from arkor_sync.emulator.recording import load_recording

ENGINES: Dict[str, Callable[..., Engine]] = {"ngram": NgramEngine, "lora": LoraEngine}
"""The engines that train, by their names on the command line."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE = 1.0  # seconds; on Windows, Ctrl-C does not end a wait that has no limit


def engine_names() -> List[str]:
    """List what `--engine` may name: engines that train, and scenarios."""
    return [*ENGINES, *SCENARIOS]


def configured(
    *,
    port: Optional[int] = None,
    speed: Optional[float] = None,
    engine: Optional[str] = None,
    model: Optional[str] = None,
    device: Optional[str] = None,
    replay: Optional[str] = None,
    faults: Optional[str] = None,
    file: Optional[str] = None,
    state: Optional[str] = None,
) -> Emulator:
    """Make an emulator of what a command line gives; the arguments come before the file.

    Args:
        port: The port; 0, or None, for a free one.
        speed: Virtual seconds for each real second.
        engine: One of `engine_names`.
        model: What the engine `lora` trains; see `LoraEngine`.
        device: Where it trains.
        replay: The file of a recording: each job plays it.
        faults: A JSON or TOML file with a list `faults`.
        file: A JSON or TOML file with a scenario, faults and options; see `Emulator.from_file`.
        state: The directory that keeps the jobs.

    Raises:
        ValueError: An argument or a file cannot work.
        OSError: A file cannot be read.
    """
    options: Dict[str, Any] = {"port": port, "speed": speed, "state_dir": state}
    options = {name: value for name, value in options.items() if value is not None}
    of_engine = {"model": model, "device": device}
    of_engine = {name: value for name, value in of_engine.items() if value is not None}
    if of_engine and engine != "lora":
        raise ValueError(f"--{next(iter(of_engine))} is for the engine lora: give --engine lora")
    chosen: Optional[Engine] = None
    if replay is not None:
        if engine is not None:
            raise ValueError("a recording is played without an engine: give one of the two")
        events = load_recording(replay)
        if not events:
            raise ValueError(f"{replay}: there is no event in it")
        chosen = ScriptedEngine(events=events)
    elif engine in ENGINES:
        chosen = ENGINES[engine](**of_engine)
    elif engine is not None:
        if engine not in SCENARIOS:
            names = ", ".join(engine_names())
            raise ValueError(f"unknown engine or scenario {engine!r}; there are: {names}")
        chosen = scenario(engine)
    if file is not None:
        given = {} if chosen is None else {"engine": chosen}
        emulator = Emulator.from_file(file, **options, **given)
    else:
        emulator = Emulator(chosen, **options)
    if faults is not None:
        try:
            emulator.faults.load(faults)
        except (ValueError, TypeError) as error:
            named = str(error) if str(faults) in str(error) else f"{faults}: {error}"
            raise ValueError(named) from None
    return emulator


def reason_of(error: Exception) -> str:
    """Say why an emulator cannot start; the number of a system error helps nobody."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    return str(error)


@contextlib.contextmanager
def signals_kept() -> Iterator[queue.SimpleQueue[int]]:
    """Put the signals that end a service into a queue, instead of acting on them."""
    received: queue.SimpleQueue[int] = queue.SimpleQueue()  # a signal handler may put into it
    former = {
        number: signal.signal(number, lambda number, _: received.put(number)) for number in SIGNALS
    }
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python


def shell_lines(emulator: Emulator) -> str:
    """Write the variables with which a program uses an emulator as lines for a shell."""
    return "".join(
        f"export {name}={shlex.quote(text)}\n" for name, text in emulator.environment().items()
    )


def serve(emulator: Emulator, variables: str, received: queue.SimpleQueue[int]) -> None:
    """Print the variables, close standard output, and wait for a signal.

    A shell that reads the variables sees their end, while this process runs on.

    Args:
        emulator: It has been started.
        variables: What is printed.
        received: The signals; see `signals_kept`.
    """
    with contextlib.suppress(BrokenPipeError):  # nobody reads them
        sys.stdout.write(variables)
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    print(
        f"a local Arkor is at {emulator.url} (process {os.getpid()}); Ctrl-C or SIGTERM stops it",
        file=sys.stderr,
        flush=True,
    )
    while True:
        with contextlib.suppress(queue.Empty):
            received.get(timeout=_SLICE)
            return
