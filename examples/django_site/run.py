"""Runs the site offline: a local Arkor, a web process, and a process that follows.

It presses the button of the site twice, and waits until the one run that this makes has ended.
`--stay` leaves all of it running, to look at the admin in a browser.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from arkor_sync.emulator import Emulator

FOLDER = Path(__file__).resolve().parent
MANAGE = [sys.executable, str(FOLDER / "manage.py")]
PASSWORD = "only-for-this-example"  # noqa: S105


def main(stay: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="arkor-site-") as folder, Emulator() as arkor:
        environment = {**os.environ, **arkor.environment(), "SITE_FOLDER": folder}
        subprocess.run([*MANAGE, "migrate", "--verbosity=0"], env=environment, check=True)
        web = start(environment, "runserver", "--noreload", "127.0.0.1:0")
        follower = start(environment, "arkor_follow")
        try:
            url = address_of(web)
            print(f"web process {web.pid}: {url}")
            print(f"follower process {follower.pid}")
            for _ in range(2):
                answer = requests.post(f"{url}train/", data={"order": 1}, timeout=30).json()
                print(f"pressed: run {answer['run']} is {answer['status']}")
            page = wait_for_end(url)
            print(page.replace("<p>", "").replace("</p>", ""))
            print(f"jobs at Arkor: {len(arkor.client().jobs.list())}")
            if stay:
                account = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
                create = ["createsuperuser", "--noinput", "--username=admin", "--email=a@b.invalid"]
                subprocess.run([*MANAGE, *create], env={**environment, **account}, check=True)
                print(f"{url}admin/ (admin, {PASSWORD}); Ctrl-C ends it")
                signal.pause()
        except KeyboardInterrupt:
            print()
        finally:
            codes = [stop(process) for process in (follower, web)]
        print(f"the follower has handed over, and ended with {codes[0]}")
        return codes[0]


def start(environment: dict, *command: str) -> subprocess.Popen:
    """Start a process of the site. Only the web process's output is read here."""
    output = subprocess.PIPE if command[0] == "runserver" else None
    return subprocess.Popen(
        [*MANAGE, *command], env=environment, stdout=output, stderr=subprocess.DEVNULL, text=True
    )


def stop(process: subprocess.Popen) -> int:
    """Stop a process as docker and systemd do."""
    process.terminate()
    with process:  # closes what is read of it
        return process.wait(30)


def address_of(web: subprocess.Popen) -> str:
    """Return the address at which the web process serves."""
    assert web.stdout is not None
    for line in web.stdout:
        if "http://" in line:
            return line.split()[-1]
    raise SystemExit("the web process has ended")


def wait_for_end(url: str) -> str:
    """Ask the site until its run has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        page = requests.get(url, timeout=30).text
        if "completed" in page or "failed" in page:
            return page
        time.sleep(0.2)
    raise SystemExit(f"the run has not ended: {page}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave it running until Ctrl-C")
    sys.exit(main(parser.parse_args().stay))
