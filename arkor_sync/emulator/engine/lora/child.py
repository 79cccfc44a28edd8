"""The child process: it takes messages, trains and chats. Runs on a thread of its own.

The main thread reads messages, lines of JSON, from standard input. One thread trains, one job after
the other. Each chat answer has a thread of its own. When the parent ends, standard input does, too,
and so does this process.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Set, Tuple

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora import base_model, checkpoints
from arkor_sync.emulator.engine.lora.settings import settings_of
from arkor_sync.emulator.engine.lora.training import Stopped, Training

if TYPE_CHECKING:
    from arkor_sync.emulator.engine.lora.chat import Chats

# After so many seconds without work the model is given up, so that its memory is free.
IDLE_SECONDS = 60.0

Message = Dict[str, Any]


class Child:
    """What the child process does.

    Args:
        options: The engine's `model`, `device`, `dtype`, `threads`, `seed` and `dry_run_steps`.
        output: The file descriptor that messages to the parent are written to.
    """

    def __init__(self, options: Dict[str, Any], output: int) -> None:
        self._options = options
        self._output = output
        self._write_lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._loaded: Dict[bool, Tuple[base_model.BaseModel, Chats]] = {}  # by four_bit
        self._jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._cancelled: Set[str] = set()
        self._stopped_chats: Set[int] = set()

    def take(self, message: Message) -> None:
        """Act on a message of the parent. Runs in the main thread, and does not wait."""
        do = message["do"]
        if do in ("train", "merge"):
            self._jobs.put(message)
        elif do == "cancel":
            self._cancelled.add(message["job"])
        elif do == "chat":
            threading.Thread(target=self._chat, args=(message,), daemon=True).start()
        elif do == "stop_chat":
            self._stopped_chats.add(message["chat"])  # the model may still be loading for it
            for _, chats in list(self._loaded.values()):
                chats.stop(message["chat"])

    def work(self) -> None:
        """Train one job after the other. Runs in the training thread."""
        while True:
            try:
                message = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._give_up_idle()
                continue
            answer: Message = {"job": message["job"]}
            try:
                {"train": self._train, "merge": self._merge}[message["do"]](message)
                answer["done"] = True
            except Stopped:
                answer["done"] = True
            except TrainingFailed as error:
                answer["failed"] = str(error)
            except BaseException as error:
                traceback.print_exc()
                reason = base_model.first_line(error)
                answer["failed"] = f"the training failed: {type(error).__name__}: {reason}"
            self._send(answer)

    def _train(self, message: Message) -> None:
        job, config = message["job"], message["config"]
        directory = Path(message["directory"])
        settings = settings_of(config, self._options["seed"], self._options["dry_run_steps"])
        carried_on = None
        if message["branched_from"]:
            folder, step = message["branched_from"]
            carried_on = checkpoints.folder_of(Path(folder), step), int(step)
        step = checkpoints.latest_step(directory, message["saved_steps"])
        if step:
            carried_on = checkpoints.folder_of(directory, step), step
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingFailed(f"{directory} cannot be made: {error.strerror}") from None
        base, _ = self._base(four_bit=settings.four_bit)
        Training(
            base,
            config,
            settings,
            directory,
            publish=lambda event: self._send({"job": job, "event": event}),
            stopping=lambda: job in self._cancelled,
        ).run(carried_on)

    def _merge(self, message: Message) -> None:
        base, _ = self._base()
        checkpoints.merge(base, Path(message["adapter"]), Path(message["folder"]))

    def _chat(self, message: Message) -> None:
        number = message["chat"]
        try:
            _, chats = self._base(four_bit=None)
        except TrainingFailed as error:
            self._send({"chat": number, "error": str(error), "status": 503})
            return
        except BaseException as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {base_model.first_line(error)}"
            self._send({"chat": number, "error": reason, "status": 500})
            return
        adapter = message["adapter"]
        chats.start(number, adapter and Path(adapter), message["request"])
        if number in self._stopped_chats:  # before it was started
            chats.stop(number)

    def _base(self, four_bit: Optional[bool] = False) -> Tuple[base_model.BaseModel, Chats]:
        """Return the model, loaded; for None whichever is loaded."""
        with self._load_lock:
            if four_bit is None:
                four_bit = next(iter(self._loaded), False)
            if four_bit not in self._loaded:
                import torch

                from arkor_sync.emulator.engine.lora.chat import Chats

                torch.set_num_threads(self._options["threads"])
                given = {name: self._options[name] for name in ("model", "device", "dtype")}
                self._loaded.clear()
                base = base_model.load(**given, four_bit=four_bit)
                self._loaded[four_bit] = base, Chats(base, self._send)
            return self._loaded[four_bit]

    def _give_up_idle(self) -> None:
        with self._load_lock:
            if not self._loaded or any(chats.running for _, chats in self._loaded.values()):
                return
            self._loaded.clear()
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _send(self, message: Message) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._write_lock:
            while line:
                line = line[os.write(self._output, line) :]


def main() -> None:
    """Serve the parent process until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    # Libraries print. Standard output is for messages, so what they print goes elsewhere.
    output = os.dup(1)
    os.dup2(2, 1)
    child = Child(json.loads(sys.stdin.readline()), output)
    threading.Thread(target=child.work, daemon=True, name="training").start()
    for line in sys.stdin:
        child.take(json.loads(line))
    os._exit(0)
