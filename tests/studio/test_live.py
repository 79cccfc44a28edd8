"""The live stream: what is new, once, over few threads; it goes on after whatever went wrong."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import urlencode, urlsplit

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.waiting import PATIENCE, until


class Visitor:
    """Asks one server, with the cookie that the first URL gives."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        answer = self.get(f"/?{parts.query}")
        self.cookie = answer.getheader("Set-Cookie", "").split(";")[0]
        answer.read()

    cookie = ""

    def get(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        connection.request("GET", path, headers={"Cookie": self.cookie, "Connection": "close"})
        return connection.getresponse()

    def poll(self, *topics: str) -> List[Dict[str, Any]]:
        answer = self.get("/live?" + urlencode([("poll", 1), *(("watch", t) for t in topics)]))
        assert answer.status == 200
        found: List[Dict[str, Any]] = json.loads(answer.read())
        return found

    def stream(self, *topics: str) -> Stream:
        return Stream(self.get("/live?" + urlencode([("watch", topic) for topic in topics])))


class Stream:
    """A live stream, read message by message."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        assert answer.status == 200, answer.read()
        assert answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        self.answer = answer

    def message(self) -> Optional[Dict[str, Any]]:
        """Return the next message; None at the end of the stream."""
        while True:
            line = self.answer.readline()
            if not line:
                return None
            if line.startswith(b"data: "):
                found: Dict[str, Any] = json.loads(line[6:])
                return found

    def until_step(self, step: int) -> Tuple[List[int], int]:
        """Read up to a step; return the steps that came, and where to go on from."""
        came: List[int] = []
        while True:
            message = self.message()
            assert message is not None
            assert not message["jump"]
            came += [log[0] for log in message["logs"]]
            if came and came[-1] >= step:
                return came, message["next"]

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def visitor(server: Any) -> Visitor:
    return Visitor(server.url)


def running(emulator: Emulator, steps: int = 100) -> str:
    """Start a job whose events come by `emulator.step`; the first two are there."""
    job_id = emulator.create_job(ScriptedEngine(steps=steps, manual=True))
    emulator.step(job_id, 2)
    return job_id


def test_two_viewers_are_told_the_same_and_cost_one_stream(
    emulator: Emulator, visitor: Visitor
) -> None:
    job_id = running(emulator)
    one, two = (visitor.stream(f"job:{job_id}:0") for _ in range(2))
    emulator.step(job_id, 9)
    assert one.until_step(10) == two.until_step(10) == (list(range(1, 11)), 11)
    assert len(emulator.connections(job_id)) == 1


def test_a_message_has_what_is_new_and_nothing_else(emulator: Emulator, visitor: Visitor) -> None:
    job_id = emulator.create_job(
        ScriptedEngine(steps=50, manual=True, checkpoints=[3]), {"maxSteps": 50}
    )
    emulator.step(job_id, 3)
    stream = visitor.stream(f"job:{job_id}:0")
    came, position = stream.until_step(2)
    assert (came, position) == ([1, 2], 3)
    emulator.step(job_id, 2)  # the log of step 3, and its checkpoint
    messages = []
    while position < 5:
        message = stream.message()
        assert message is not None
        messages.append(message)
        position = message["next"]
    assert [log[0] for each in messages for log in each["logs"]] == [3]
    assert [saved[0] for each in messages for saved in each["checkpoints"]] == [3]
    assert messages[-1] == {
        "topic": f"job:{job_id}",
        "tap": messages[-1]["tap"],
        "next": 5,
        "status": "running",
        "error": None,
        "step": 3,
        "total_steps": 50,
        "connection": "live",
        "logs": messages[-1]["logs"],
        "checkpoints": messages[-1]["checkpoints"],
        "jump": False,
    }
    seconds = messages[0]["logs"][0][6]
    assert messages[0]["logs"] == [[3, messages[0]["logs"][0][1], None, None, None, None, seconds]]


def test_the_end_is_told(emulator: Emulator, visitor: Visitor) -> None:
    job_id = running(emulator)
    stream = visitor.stream(f"job:{job_id}:0")
    stream.until_step(1)
    emulator.finish(job_id, "failed", error="out of memory")
    message: Any = None
    while message is None or message["connection"] != "ended":
        message = stream.message()
    assert (message["status"], message["error"]) == ("failed", "out of memory")


def test_a_stream_of_the_cloud_that_breaks_is_told_and_goes_on(
    emulator: Emulator, visitor: Visitor
) -> None:
    job_id = running(emulator)
    emulator.faults.add(Fault("reset_peer", route="stream", event="4"))
    stream = visitor.stream(f"job:{job_id}:0")
    stream.until_step(1)
    emulator.step(job_id, 8)
    came, connections = [], []
    while not came or came[-1] < 9:
        message = stream.message()
        assert message is not None
        came += [log[0] for log in message["logs"]]
        connections.append(message["connection"])
    assert came == list(range(2, 10))
    assert "reconnecting" in connections
    assert connections[-1] == "live"


def test_behind_a_new_server_nothing_is_lost_or_twice(
    emulator: Emulator, visitor: Visitor, server: Any
) -> None:
    from arkor_sync.studio.server import StudioServer

    job_id = running(emulator)
    emulator.step(job_id, 20)
    stream = visitor.stream(f"job:{job_id}:0")
    came, position = stream.until_step(21)
    server.close()
    assert stream.message() is None  # it ends with its server
    emulator.step(job_id, 20)
    new = StudioServer(emulator.client(), port=0)
    thread = threading.Thread(target=new.run)
    thread.start()
    again, _ = Visitor(new.url).stream(f"job:{job_id}:{position}").until_step(41)
    new.close()
    thread.join(PATIENCE)
    assert came + again == list(range(1, 42))


def test_a_page_that_has_more_than_there_is_gets_the_points_anew(
    emulator: Emulator, visitor: Visitor
) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=3))
    until(lambda: visitor.poll(f"job:{job_id}:0")[0]["connection"] == "ended")
    [message] = visitor.poll(f"job:{job_id}:99")
    assert (message["jump"], message["next"], message["logs"]) == (True, 5, [])


def test_after_too_many_logs_the_page_is_told_to_jump(emulator: Emulator, visitor: Visitor) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=1500))
    until(lambda: visitor.poll(f"job:{job_id}:0")[0]["connection"] == "ended")
    [message] = visitor.poll(f"job:{job_id}:0")
    assert (message["jump"], message["next"], message["logs"]) == (True, 1502, [])
    [message] = visitor.poll(f"job:{job_id}:1000")
    assert [log[0] for log in message["logs"]] == list(range(1000, 1501))


def test_several_topics_share_a_stream(emulator: Emulator, visitor: Visitor) -> None:
    jobs = [running(emulator), running(emulator)]
    stream = visitor.stream(*(f"job:{job_id}:0" for job_id in jobs))
    topics = set()
    while len(topics) < 2:
        message = stream.message()
        assert message is not None
        if message["logs"]:
            topics.add(message["topic"])
    assert topics == {f"job:{job_id}" for job_id in jobs}
    assert [each["topic"] for each in visitor.poll(*(f"job:{j}:0" for j in jobs))] == [
        f"job:{job_id}" for job_id in jobs
    ]


def test_streams_leave_two_threads_free_and_are_given_back(
    emulator: Emulator, visitor: Visitor
) -> None:
    from arkor_sync.studio.server import THREADS
    from arkor_sync.studio.state import STREAMS

    assert STREAMS == THREADS - 2
    job_id = running(emulator)
    topic = f"job:{job_id}:0"
    streams = [visitor.stream(topic) for _ in range(STREAMS)]
    for stream in streams:
        stream.until_step(1)
    refused = visitor.get(f"/live?watch={topic}")
    assert refused.status == 429
    refused.read()
    assert visitor.poll(topic)[0]["logs"]  # as the tab then does
    streams[0].close()
    until(lambda: free(visitor, topic))


def free(visitor: Visitor, topic: str) -> bool:
    answer = visitor.get(f"/live?watch={topic}")
    answer.close()
    return answer.status == 200


@pytest.mark.parametrize(
    "topic", ["", "job", "job:1", "job:x:", "job::1", "job:x:-1", "jobs:now", "all:1", "job:x:1²"]
)
def test_a_topic_that_is_none_is_refused(visitor: Visitor, topic: str) -> None:
    answer = visitor.get("/live?" + urlencode({"watch": topic, "poll": 1}))
    assert answer.status == 400
    answer.read()


def test_a_job_that_is_none_is_not_found(visitor: Visitor) -> None:
    answer = visitor.get("/live?watch=job:nothing:0")
    assert answer.status == 404
    answer.read()


@pytest.mark.usefixtures("server")
def test_a_request_that_waits_for_a_thread_is_no_warning() -> None:
    assert not logging.getLogger("waitress.queue").isEnabledFor(logging.WARNING)


def test_where_the_pages_are_mounted_every_tab_polls(emulator: Emulator, web: Any) -> None:
    job_id = running(emulator)
    assert web.get(f"/live?watch=job:{job_id}:0").status_code == 429
    url = f"/live?watch=job:{job_id}:0&poll=1"
    until(lambda: web.get(url).json[0]["logs"])


def test_the_list_of_jobs_tells_what_has_changed(emulator: Emulator, visitor: Visitor) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=3), name="first")
    until(lambda: emulator.jobs[job_id].terminal)
    [message] = visitor.poll("jobs:0")
    job = emulator.client().jobs.get(job_id)
    assert message == {
        "topic": "jobs",
        "next": message["next"],
        "changed": [
            {
                "id": job_id,
                "name": "first",
                "status": "completed",
                "created_at": job.created_at,
                "started_at": job.started_at,
                "completed_at": job.completed_at,
            }
        ],
    }
    assert visitor.poll(f"jobs:{message['next']}") == []
    stream = visitor.stream(f"jobs:{message['next']}")
    other = running(emulator)
    told = stream.message()  # the cloud is asked again within two seconds
    assert told is not None
    assert [each["id"] for each in told["changed"]] == [other]
    assert told["next"] > message["next"]
