"""The page's side of the live stream, in a real browser."""

from __future__ import annotations

import threading
from typing import Any, List
from urllib.parse import unquote, urlsplit

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

WATCH = """async (topics) => {
  const { watch } = await import("/static/live.js");
  window.came = {};
  window.stops = topics.map((topic) => {
    window.came[topic] = [];
    const add = (message) => window.came[topic].push(...message.logs.map((log) => log[0]));
    return watch(topic, 0, add);
  });
}"""


def running(emulator: Emulator) -> str:
    job_id = emulator.create_job(ScriptedEngine(steps=1000, manual=True))
    emulator.step(job_id, 3)
    return job_id


def came(page: Any, topic: str) -> List[int]:
    steps: List[int] = page.evaluate("(topic) => window.came[topic]", topic)
    return steps


def wait_for(page: Any, topic: str, step: int) -> None:
    page.wait_for_function(
        "([topic, step]) => window.came[topic].includes(step)", arg=[topic, step]
    )


def test_a_tab_shows_all_its_topics_over_one_stream(
    emulator: Emulator, server: Any, page: Any
) -> None:
    topics = [f"job:{running(emulator)}" for _ in range(2)]
    requests: List[str] = []
    page.on("request", lambda request: requests.append(unquote(request.url)))
    page.goto(server.url)
    page.evaluate(WATCH, topics)
    for topic in topics:
        wait_for(page, topic, 2)
        emulator.step(topic[4:], 20)
        wait_for(page, topic, 22)
        assert came(page, topic) == list(range(1, 23))
    both = [url for url in requests if "/live?" in url and all(topic in url for topic in topics)]
    assert len(both) == 1
    assert [url for url in requests if any(topic in url for topic in topics)] == both
    page.evaluate("() => window.stops[0]()")
    emulator.step(topics[0][4:], 5)
    emulator.step(topics[1][4:], 5)
    wait_for(page, topics[1], 27)
    assert came(page, topics[0]) == list(range(1, 23))
    assert came(page, topics[1]) == list(range(1, 28))


def test_it_goes_on_behind_a_new_server(emulator: Emulator, server: Any, browser: Any) -> None:
    from arkor_sync.studio.server import StudioServer

    topic = f"job:{running(emulator)}"
    context = browser.new_context()  # its console tells of requests that nobody answered
    page = context.new_page()
    page.goto(server.url)
    page.evaluate(WATCH, [topic])
    wait_for(page, topic, 2)
    server.close()
    page.wait_for_function("() => document.getElementById('connection').textContent !== ''")
    emulator.step(topic[4:], 10)
    port = urlsplit(server.url).port
    new = until(lambda: restarted(StudioServer, emulator, port))
    thread = threading.Thread(target=new.run)
    thread.start()
    # The new server has a new token. Its URL is opened once; the browser has one cookie for all.
    context.new_page().goto(new.url)
    wait_for(page, topic, 12)
    emulator.step(topic[4:], 3)
    wait_for(page, topic, 15)
    assert came(page, topic) == list(range(1, 16))
    assert page.locator("#connection").text_content() == ""
    context.close()
    new.close()
    thread.join(PATIENCE)


def restarted(server: Any, emulator: Emulator, port: Any) -> Any:
    try:
        return server(emulator.client(), port=port)
    except OSError:  # the old one is still ending
        return None


def test_without_a_free_stream_it_asks(emulator: Emulator, server: Any, page: Any) -> None:
    topic = f"job:{running(emulator)}"
    shared = server._app.extensions["arkor_sync.studio"]
    while shared.streams.acquire(blocking=False):
        pass
    asked: List[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).query))
    page.goto(server.url)
    page.evaluate(WATCH, [topic])
    wait_for(page, topic, 2)
    emulator.step(topic[4:], 7)
    wait_for(page, topic, 9)
    assert came(page, topic) == list(range(1, 10))
    assert any("poll=1" in query for query in asked)
