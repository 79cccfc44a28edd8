"""The playground and the table of prompts in a real browser, as their readers use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import Any, Iterator

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

BASE = "unsloth/gemma-4-E4B-it"
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>\n  second line"


@pytest.fixture
def expect() -> Any:
    """Wait for what a page shows."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE * 1000)
    return expect


def ended(emulator: Emulator, **script: Any) -> str:
    """Return the id of a job that has ended, with checkpoints at the steps 10 and 20."""
    script = {"steps": 20, "checkpoints": (10, 20), **script}
    job_id = emulator.create_job(ScriptedEngine(**script), name="triage")
    emulator.wait_for(lambda: emulator.jobs[job_id].terminal)
    return job_id


def open_page(page: Any, server: Any, path: str) -> None:
    page.goto(server.url)
    page.goto(server.url.split("?")[0] + path)


def ask(page: Any, text: str) -> None:
    page.get_by_label("Your question").fill(text)
    page.get_by_role("button", name="Ask", exact=True).click()


@contextmanager
def serving(emulator: Emulator, port: int = 0) -> Iterator[Any]:
    from arkor_sync.studio.server import StudioServer

    server = StudioServer(emulator.client(), port=port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_base_model_and_a_checkpoint_answer_side_by_side(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    job_id = ended(emulator)
    emulator.engine = ScriptedEngine(reply=HOSTILE)
    open_page(page, server, f"playground?job={job_id}&step=10")
    first = page.get_by_role("group", name="Model", exact=True)
    expect(first.get_by_label("Adapter")).to_have_value("10")
    page.get_by_role("button", name="Ask a second model too").click()
    second = page.get_by_role("group", name="Second model")
    second.get_by_label("Base model or job").select_option(f"base:{BASE}")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("System prompt").fill("Be kind.")
    page.get_by_label("Temperature").fill("0.5")
    ask(page, "Hello to you")

    trained = page.get_by_role("region", name="triage @ 10")
    base = page.get_by_role("region", name=BASE)
    expect(trained.locator(".said")).to_have_text("[triage @ 10] Hello to you")
    expect(trained.locator(".told")).to_contain_text("26 tokens")
    expect(trained.locator(".told")).to_contain_text("finish reason: stop")
    expect(base.locator(".told")).to_contain_text("finish reason: stop")
    assert base.locator(".said").inner_text() == HOSTILE  # as text, with its lines
    assert base.locator("img, b").count() == 0
    for request in (each for each in emulator.requests if each.route == "chat"):
        assert request.body["messages"][0] == {"role": "system", "content": "Be kind."}
        assert request.body["temperature"] == 0.5

    ask(page, "And again")
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".turn").last.get_by_text("finish reason: stop")).to_have_count(2)
    sent = [each.body["messages"] for each in emulator.requests if each.route == "chat"][2:]
    said = {messages[2]["content"] for messages in sent}
    assert said == {"[triage @ 10] Hello to you", HOSTILE}  # each model has its own answers
    first.get_by_label("Adapter").select_option("20")
    assert page.url.endswith(f"?job={job_id}&step=20")


def test_an_answer_is_stopped_kept_edited_and_asked_again(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    gone = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while not gone.wait(0.01):
                yield "word "  # up to the limit of tokens, which is minutes away
        finally:
            gone.set()

    emulator.engine = ScriptedEngine(reply=lambda chat, job, step: endless())
    open_page(page, server, "playground")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Most tokens").fill("131072")
    ask(page, "Count")
    answer = page.locator(".answer").last
    expect(answer.locator(".said")).to_contain_text("word word word")
    expect(answer.locator(".told")).to_contain_text("writing")
    page.get_by_role("button", name="Stop").click()
    expect(answer.locator(".told")).to_contain_text("stopped")
    expect(page.get_by_label("Your question")).to_be_focused()
    until(gone.is_set)  # the cloud no longer writes
    emulator.engine = ScriptedEngine(reply="one two three four")

    page.get_by_role("button", name="Edit the last question").click()
    field = page.get_by_label("The last question, changed")
    expect(field).to_have_value("Count")
    field.fill("Count on")
    page.get_by_role("button", name="Ask instead of the last question").click()
    expect(page.locator(".asked")).to_have_text(["Count on"])
    expect(page.locator(".said")).to_have_text(["one two three four"])
    page.get_by_role("button", name="Ask it again").click()
    expect(page.locator(".told")).to_contain_text(["finish reason: stop"])

    page.get_by_role("button", name="Clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear").click()
    expect(page.get_by_text("Nothing has been asked yet.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Nothing has been asked yet.")).to_be_visible()


def test_errors_stand_where_the_answer_would(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    emulator.engine = ScriptedEngine(reply="one two three")
    emulator.faults.add(
        Fault("status", route="chat", status=503, value="<b>no room</b>", nth=1),
        Fault("cut_clean", route="chat", index=3, nth=2),
    )
    open_page(page, server, "playground")
    ask(page, "First")
    expect(page.locator(".answer .problem")).to_contain_text(["<b>no room</b>"])
    ask(page, "Second")
    expect(page.locator(".answer .problem").last).to_contain_text("cut before its end")
    expect(page.locator(".said").last).to_have_text("one two")
    ask(page, "Third")
    expect(page.locator(".told").last).to_contain_text("finish reason: stop")
    messages = [each.body["messages"] for each in emulator.requests if each.route == "chat"][-1]
    assert [each["content"] for each in messages] == ["Second", "one two ", "Third"]

    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("JSON schema of the answer").fill("[1]")
    ask(page, "Fourth")
    expect(page.get_by_text("This has to be an object")).to_be_visible()
    expect(page.get_by_label("JSON schema of the answer")).to_be_focused()
    page.get_by_label("JSON schema of the answer").fill("{")
    ask(page, "Fourth")
    expect(page.get_by_text("This is no JSON")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(3)


def test_a_conversation_outlives_a_reload_a_restart_and_its_tab(
    page: Any, emulator: Emulator, expect: Any
) -> None:
    emulator.engine = ScriptedEngine(reply="one two three")
    with serving(emulator) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        open_page(page, server, "playground")
        ask(page, "Whole")
        expect(page.locator(".told")).to_contain_text(["finish reason: stop"])
        emulator.faults.add(Fault("blackhole", route="chat", index=3))
        ask(page, "Cut")
        expect(page.locator(".said").last).to_have_text("one two")
        page.get_by_label("Your question").fill("A draft")
        page.reload()
        expect(page.locator(".asked")).to_have_text(["Whole", "Cut"])
        expect(page.locator(".said")).to_have_text(["one two three", "one two"])
        expect(page.locator(".told").last).to_contain_text("this is not the whole answer")
        expect(page.get_by_label("Your question")).to_have_value("A draft")
    with serving(emulator, port) as server:
        ask(page, "Too early")
        expect(page.locator(".answer .problem").last).to_contain_text("Open the URL")
        open_page(page, server, "playground")
        expect(page.locator(".asked")).to_have_text(["Whole", "Cut", "Too early"])
        page.get_by_role("button", name="Ask it again").click()
        expect(page.locator(".told").last).to_contain_text("finish reason: stop")
        with page.context.expect_page() as opened:
            page.evaluate("open(location.href, '_blank', 'noopener') && undefined")
        other = opened.value
        expect(other.locator(".asked")).to_have_text(["Whole", "Cut", "Too early"])
        ask(other, "In the other tab")
        expect(other.locator(".told").last).to_contain_text("finish reason: stop")
        page.reload()
        expect(page.locator(".asked")).to_have_count(3)  # a tab has its own
        other.close()


def test_the_program_that_is_copied_runs(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    job_id = ended(emulator)
    open_page(page, server, f"playground?job={job_id}&step=20")
    ask(page, "Hello")
    expect(page.locator(".told")).to_contain_text(["finish reason: stop"])
    page.get_by_role("button", name="Copy as Python").click()
    code = page.get_by_label("The same in Python").get_by_role("textbox").input_value()
    environment = {**os.environ, **emulator.environment()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[triage @ 20] Hello\n"
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_everything_works_with_the_keyboard_alone(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    emulator.engine = ScriptedEngine(reply="one two three")
    emulator.faults.add(Fault("blackhole", route="chat", index=3, nth=2))
    open_page(page, server, "playground")
    page.get_by_label("Your question").focus()
    page.keyboard.type("First line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(page.locator(".told").last).to_contain_text("finish reason: stop")
    assert page.locator(".asked").inner_text() == "First line\nsecond line"
    page.keyboard.type("Again")
    page.keyboard.press("Enter")
    expect(page.locator(".said").last).to_have_text("one two")
    page.keyboard.press("Escape")
    expect(page.locator(".told").last).to_contain_text("stopped")
    for name in ("Ask", "Edit the last question"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("The last question, changed")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Your question")).to_be_focused()


def test_one_prompt_is_asked_of_all_checkpoints_and_the_answers_compared(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    texts = {10: "The cat sat here", 20: "The dog sat here now", None: "The dog sat here now"}
    job_id = ended(emulator, reply=lambda chat, job, step: texts[step])
    emulator.engine = ScriptedEngine(reply="=1+1 <b>The</b> cat")
    open_page(page, server, "prompts")
    page.get_by_role("button", name="Choose").click()
    page.get_by_label("step 10").wait_for()
    assert page.url.endswith(f"prompts?job={job_id}")
    page.get_by_label("Prompts, one a line").fill("First?\n\nSecond?")
    page.get_by_role("button", name="Ask all").click()
    expect(page.get_by_role("status").filter(has_text="Ended")).to_have_text(
        "Ended: 8 of 8 answers."
    )
    heads = page.locator("table thead th")
    expect(heads).to_have_text(["Model", "First?", "Second?"])
    expect(page.locator("table tbody th")).to_have_text(
        [f"base: {BASE}", "step 10", "step 20", "final"]
    )
    rows = page.locator("table tbody tr")
    assert rows.nth(0).locator(".said").first.inner_text() == "=1+1 <b>The</b> cat"
    changed = rows.nth(2).locator("td").first
    expect(changed.locator("del")).to_have_text(["cat"])
    expect(changed.locator("ins")).to_have_text(["dog", "now"])
    expect(changed.locator(".told")).to_contain_text("changed since step 10: 2 inserted, 1 removed")
    expect(rows.nth(3).locator(".told").first).to_contain_text("the same as step 20")

    page.get_by_label("Show what changed").uncheck()
    expect(page.locator("ins, del")).to_have_count(0)
    expect(changed.locator(".said")).to_have_text("The dog sat here now")
    page.get_by_role("button", name="Copy as CSV").click()
    lines = page.get_by_label("The answers as CSV").get_by_role("textbox").input_value()
    assert "step 20,First?,The dog sat here now,done,stop" in lines
    assert ",'=1+1 <b>The</b> cat," in lines  # no spreadsheet runs it
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Copy as JSON").click()
    expect(page.get_by_label("The answers as JSON").get_by_role("textbox")).to_have_value(
        re.compile('"model": "final"')
    )


def test_the_table_of_prompts_can_be_stopped(
    server: Any, page: Any, emulator: Emulator, expect: Any
) -> None:
    job_id = ended(emulator)
    emulator.faults.add(
        Fault("status", route="chat", status=503, nth=1),
        Fault("blackhole", route="chat", index=3, nth=3),
    )
    open_page(page, server, f"prompts?job={job_id}")
    page.get_by_label("step 10").wait_for()
    page.get_by_label("Prompts, one a line").fill("Hello")
    page.get_by_role("button", name="Ask all").click()
    expect(page.get_by_role("status").filter(has_text="Asking step 20")).to_be_visible()
    expect(page.locator("tbody tr").nth(2).locator(".said")).to_have_text("[triage @")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text="Stopped")).to_have_text(
        "Stopped: 2 of 4 answers, 1 of them failed."
    )
    expect(page.locator("tbody tr").nth(0).locator(".problem")).to_be_visible()
    expect(page.locator("tbody tr").nth(3).locator("td")).to_have_text(["\N{EN DASH}"])
