"""Start the shop beside a local Arkor, buy something, and kill the web server in between.

    python examples/flask_app/run.py

It needs no account and no network: `pip install '.[flask,database]' Flask-SQLAlchemy`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

import requests

from arkor_sync.emulator import Emulator, NgramEngine

HERE = Path(__file__).resolve().parent


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@contextlib.contextmanager
def flask(*arguments: str) -> Iterator[subprocess.Popen[Any]]:
    """Run a command of the shop in a process of its own."""
    command = [sys.executable, "-m", "flask", "--app", "shop:create_app()", *arguments]
    process = subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def run_to_its_end(*arguments: str) -> None:
    with flask(*arguments) as process:
        if process.wait() != 0:
            sys.exit(f"flask {' '.join(arguments)} failed; run it yourself to see why")


def ask(method: str, url: str) -> Any:
    """Make a request; wait until the web server is there."""
    for _ in range(600):
        with contextlib.suppress(requests.ConnectionError):
            return requests.request(method, url, timeout=30).json()
        time.sleep(0.1)
    return sys.exit("the web server does not answer")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Emulator(NgramEngine()) as cloud:
        os.environ.update(cloud.environment(), DATABASE_URL=f"sqlite:///{folder}/shop.db")
        os.environ["NO_PROXY"] = "127.0.0.1"
        run_to_its_end("arkor", "create-tables")
        run_to_its_end("create-orders")
        port = free_port()
        order = f"http://127.0.0.1:{port}/orders/order-17"
        with flask("arkor", "follow", "--poll", "0.2"):
            with flask("run", "--port", port) as web:
                for _ in range(2):
                    print("bought:", ask("POST", order))
                web.kill()
                print("the web server is killed; the job goes on, and another process follows it")
            with flask("run", "--port", port):
                shown = None
                while shown is None or shown["status"] in ("ordered", "training"):
                    found = ask("GET", order)
                    if found != shown:
                        print("order:", found)
                    shown = found
                    time.sleep(0.1)
        print(f"{len(cloud.jobs)} job was paid")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
