"""Studio: how soon a page has the curves of a long job, their size, and many tabs at once."""

from __future__ import annotations

import http.client
import json
import re
import statistics
import threading
import time
import urllib.request
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from urllib.parse import urlencode, urlsplit

from bench_clients import Touch, cloud
from bench_report import Figure, Row, Size, fresh, say
from bench_server import LISTED, Server

from arkor_sync import follow
from arkor_sync.emulator import Emulator, ScriptedEngine

TABS = 50
MOST_MS = 50
MOST_BYTES = 40_000
MOST_SECONDS = 1.0
SCRIPT = 100_000
PARTS = (1.0, 0.5, 0.1, 0.01, 0.0001)  # of the job, that are looked at
PACE = 0.05  # seconds between two logs, while many look
ASK = 2.0  # seconds between two requests of a tab without a stream
SOON_MS = 300
FILES = ("studio.css", "scheme.js", "page.js", "job.js", "chart.js", "live.js", "events.js")


def measure(size: Size) -> Figure:
    milliseconds, sizes, reading, followed = fresh(points, size.flood, size.rounds)
    say(f"studio: points {statistics.median(milliseconds):.1f} ms, {max(sizes):,} bytes")
    waited, streams = fresh(viewers, size.idle)
    waited.sort()
    late = waited[-1 - len(waited) // 100]
    say(f"studio: {TABS} tabs: p99 {late * 1000:.0f} ms, {streams} stream(s) of the cloud")
    starts, charts = zip(*(fresh(first_chart) for _ in range(size.rounds)))
    say(f"studio: start {milliseconds_of(starts)}, first chart {milliseconds_of(charts)}")
    opened = fresh(lists, size.rounds)
    say(f"studio: {LISTED:,} jobs {opened}")
    script = sum(len(path.read_bytes()) for path in scripts())
    rows = [
        Row(
            f"studio, points of {size.flood:,} logs, first byte",
            f"{statistics.median(milliseconds):.1f} ms (worst {max(milliseconds):.1f})",
            f"median at most {MOST_MS} ms",
            statistics.median(milliseconds) <= MOST_MS,
        ),
        Row(
            f"studio, points of {size.flood:,} logs, size",
            f"{max(sizes):,} bytes at most",
            f"at most {MOST_BYTES:,}",
            max(sizes) <= MOST_BYTES,
        ),
        Row(
            f"studio, {size.flood:,} logs read for a page",
            f"{reading / size.flood * 1e6:.1f} µs a log",
            "at most twice as long",
            reading / followed <= 2,
            f"a run: {followed / size.flood * 1e6:.1f} µs",
            f"{reading / followed:.2f}",
        ),
        Row(
            f"studio, {TABS} tabs over 8 threads, a request",
            f"p99 {late * 1000:.0f} ms of {len(waited)} (worst {waited[-1] * 1000:.0f})",
            f"at most {MOST_SECONDS:.0f} s",
            waited[-1] <= MOST_SECONDS,
        ),
        Row(f"studio, {TABS} tabs, streams of the cloud", str(streams), "1", streams == 1),
        Row("studio, until its server has started", milliseconds_of(starts), "stated", True),
        Row(
            "studio, from then until the first curve of a job is there",
            milliseconds_of(charts),
            f"median at most {SOON_MS} ms",
            statistics.median(charts) <= SOON_MS,
        ),
        Row(
            f"studio, the first time that {LISTED:,} jobs are listed",
            milliseconds_of(opened["first"]),
            "stated",
            True,
        ),
        Row(
            f"studio, {LISTED:,} jobs, while the cloud is asked anew",
            milliseconds_of(opened["again"]),
            f"median at most {SOON_MS} ms",
            statistics.median(opened["again"]) <= SOON_MS,
        ),
        Row(
            "studio, script of all pages",
            f"{script:,} bytes",
            f"{SCRIPT:,}",
            script <= SCRIPT,
            "; ".join(f"{name}'s first page: {size:,}" for name, size in peers().items()) or "—",
        ),
    ]
    data = {
        "milliseconds": milliseconds,
        "bytes": sizes,
        "reading": reading,
        "followed": followed,
        "waited": waited,
        "starts": starts,
        "first charts": charts,
        "lists": opened,
    }
    return Figure(rows, data)


def milliseconds_of(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})"


def scripts() -> Iterator[Path]:
    import arkor_sync.studio

    return Path(str(arkor_sync.studio.__file__)).parent.glob("static/*.js")


def peers() -> Dict[str, int]:
    """Return the bytes of script that the first page of each peer loads, of those installed."""
    found: Dict[str, int] = {}
    for name, folder in (
        ("tensorboard", "tensorboard/webfiles.zip"),
        ("trackio", "trackio/frontend/dist"),
    ):
        try:
            peer = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        place = Path(str(peer.locate_file(folder)))
        root: Any = zipfile.Path(place) if place.suffix == ".zip" else place
        page = (root / "index.html").read_text("utf-8")
        sources = re.findall('<script[^>]* src="/?([^"?]+)', page)
        size = sum(len((root / source).read_bytes()) for source in sources)
        found[f"{name} {peer.version}"] = size
    return found


class Served:
    """Studio over a client, in this process."""

    def __init__(self, client: Any) -> None:
        from arkor_sync.studio.server import StudioServer

        self._server = StudioServer(client, port=0)
        self._thread = threading.Thread(target=self._server.run)
        self.url = self._server.url

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.join()


class Tab:
    """A browser's tab, of which only the requests are there."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._cookie = ""
        answer, _ = self.get(f"/?{parts.query}")
        self._cookie = (answer.getheader("Set-Cookie") or "").split(";")[0]
        answer.read()

    def get(self, path: str) -> Tuple[http.client.HTTPResponse, float]:
        """Return the answer, unread, and the seconds until its first byte."""
        connection = http.client.HTTPConnection(self._host, timeout=60)
        begin = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": self._cookie, "Connection": "close"})
        answer = connection.getresponse()
        return answer, time.perf_counter() - begin


def points(logs: int, rounds: int) -> Tuple[List[float], List[int], float, float]:
    """Look at parts of a job.

    Returns:
        The milliseconds and the bytes of each answer; the seconds until the job was read, and those
        of a run.
    """
    with Server() as server:
        job = f"replay-close-{logs}-0"
        urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
        begin = time.perf_counter()
        with follow(job, client=cloud(server.url), callbacks={"on_log": Touch().context}) as run:
            run.wait()
        followed = time.perf_counter() - begin
        with Served(cloud(server.url)) as studio:
            tab = Tab(studio.url)
            begin = time.perf_counter()
            while True:
                facts = json.loads(tab.get(f"/jobs/{job}/facts")[0].read())
                if facts["connection"] == "ended":
                    break
                time.sleep(0.05)
            reading = time.perf_counter() - begin
            milliseconds: List[float] = []
            sizes: List[int] = []
            for _ in range(rounds):
                for axis in ("step", "epoch", "time"):
                    for part in PARTS:
                        asked = {"x": axis, "count": 2000}
                        if part < 1.0 and axis == "step":
                            asked.update({"from": logs // 3, "to": int(logs * (1 / 3 + part / 2))})
                        answer, seconds = tab.get(f"/jobs/{job}/points?{urlencode(asked)}")
                        milliseconds.append(seconds * 1000)
                        sizes.append(len(answer.read()))
    return milliseconds, sizes, reading, followed


def first_chart() -> Tuple[float, float]:
    """Return the milliseconds of a server's start, and until it has given a job's first curve.

    The start has the imports. Everything that a browser loads for the page is asked for before the
    curve, one after the other.
    """
    logs = 1_000
    with Server() as server:
        job = f"replay-close-{logs}-0"
        urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
        client = cloud(server.url)
        begin = time.perf_counter()
        with Served(client) as studio:
            started = time.perf_counter()
            tab = Tab(studio.url)
            for path in (f"/jobs/{job}", *(f"/static/{file}" for file in FILES)):
                answer, _ = tab.get(path)
                assert answer.status == 200, path
                answer.read()
            while True:
                found = json.loads(tab.get(f"/jobs/{job}/points")[0].read())
                if found["total"] == logs:
                    return (started - begin) * 1000, (time.perf_counter() - started) * 1000


def lists(rounds: int) -> Dict[str, List[float]]:
    """Return the milliseconds of the page of jobs: the first time, and again a while later."""
    from arkor_sync.studio import job_list

    found: Dict[str, List[float]] = {"first": [], "again": []}
    with Server() as server:
        for _ in range(rounds):
            with Served(cloud(server.url)) as studio:
                tab = Tab(studio.url)
                for kind in found:
                    begin = time.perf_counter()
                    assert b"support" in tab.get("/jobs")[0].read()
                    found[kind].append((time.perf_counter() - begin) * 1000)
                    time.sleep(job_list._REST)
    return found


def viewers(seconds: float) -> Tuple[List[float], int]:
    """Have many tabs look at one job; return how long requests took, and the cloud's streams."""
    with Emulator(ScriptedEngine(steps=1_000_000, step_delay=PACE)) as emulator:
        job = emulator.create_job()
        with Served(emulator.client()) as studio:
            waited: List[float] = fresh(look, studio.url, job, seconds)
        return waited, len(emulator.connections(job))


def look(url: str, job: str, seconds: float) -> List[float]:
    """Open the tabs; return how long each request took that is no stream."""
    waited: List[float] = []
    end = time.perf_counter() + seconds

    def tab() -> None:
        own = Tab(url)
        facts, took = own.get(f"/jobs/{job}/points")
        waited.append(took)
        position = json.loads(facts.read())["next"]
        answer, took = own.get(f"/live?watch=job:{job}:{position}")
        if answer.status == 200:
            while time.perf_counter() < end:
                answer.readline()
            answer.close()
            return
        waited.append(took)
        answer.read()
        while True:
            answer, took = own.get(f"/live?poll=1&watch=job:{job}:{position}")
            waited.append(took)
            [message] = json.loads(answer.read())
            position = message["next"]
            if time.perf_counter() + ASK >= end:
                return
            time.sleep(ASK)

    tabs = [threading.Thread(target=tab) for _ in range(TABS)]
    for each in tabs:
        each.start()
    for each in tabs:
        each.join()
    return waited
