"""Every page in a real browser: both schemes, three widths, the keyboard, and what axe-core finds.

A new page is a line in `PAGES`.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need
from support.waiting import until

pytestmark = pytest.mark.slow

PAGES = {
    "overview": "/",
    "jobs": "/jobs",
    "jobs, none found": "/jobs?q=no-such-job",
    "a job that runs": "/jobs/{running}",
    "a job that has ended": "/jobs/{ended}",
    "a job that failed": "/jobs/{failed}",
    "a job that waits": "/jobs/{queued}",
    "why": "/jobs/{failed}/why",
    "compare": "/compare?job={ended}&job={running}",
    "playground": "/playground",
    "playground of a job": "/playground?job={ended}&step=2",
    "prompts": "/prompts?job={ended}",
    "endpoints": "/endpoints",
    "an endpoint": "/endpoints/{endpoint}",
    "no such job": "/jobs/no-such-job",
    "no such page": "/not/there",
}
WIDTHS = (360, 1280, 2560)
VIOLATIONS = {"resultTypes": ["violations"]}
SCHEMES = ("light", "dark")

HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "a-name-without-a-place-to-break-it-" * 4

# What the keyboard must reach. Tab reaches one radio button of a group, the arrows the others.
MARK_CONTROLS = """() => {
  const controls = document.querySelectorAll(
    'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]');
  const groups = new Set();
  let number = 0;
  for (const each of controls) {
    if (each.disabled || !each.checkVisibility({ visibilityProperty: true })) continue;
    if (each.type === "radio") {
      if (groups.has(each.name)) continue;
      groups.add(each.name);
      for (const other of document.getElementsByName(each.name)) other.dataset.ofTest = number;
    }
    each.dataset.ofTest = number++;
  }
}"""
CONTROLS = """() => {
  const found = {};
  for (const each of document.querySelectorAll("[data-of-test]"))
    found[each.dataset.ofTest] = each.cloneNode(false).outerHTML;
  return found;
}"""
FOCUSED = """() => {
  const focused = document.activeElement;
  const style = getComputedStyle(focused);
  return {
    control: focused.dataset.ofTest ?? null,
    html: focused.cloneNode(false).outerHTML,
    isShown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
  };
}"""
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.querySelectorAll("body *")].filter(
    (each) => each.getBoundingClientRect().right > width + 1);
  return ["the page", ...wide.map((each) => each.cloneNode(false).outerHTML)];
}"""


@pytest.fixture
def names(emulator: Emulator) -> Dict[str, str]:
    """Have jobs in every state, and an endpoint."""
    ended = emulator.create_job(ScriptedEngine(steps=6, checkpoints=[2, 4]), name=HOSTILE)
    failed = emulator.create_job(
        ScriptedEngine(steps=6, fails_at=3, error=f"out of memory: {HOSTILE} {LONG}"), name=LONG
    )
    running = emulator.create_job(ScriptedEngine(steps=9, manual=True), name="it runs")
    queued = emulator.create_job(ScriptedEngine(steps=9, manual=True), name="it waits")
    emulator.step(running, 4)
    for job, status in ((ended, "completed"), (failed, "failed"), (running, "running")):
        emulator.wait_for(lambda job=job, status=status: emulator.jobs[job].status == status)
    target = {"kind": "base_model", "baseModel": "unsloth/gemma-4-E4B-it"}
    return {
        "ended": ended,
        "failed": failed,
        "running": running,
        "queued": queued,
        "endpoint": emulator.add_deployment("shop", target),
    }


class Visit:
    """A page of the browser that visits ours, and all that it asks for.

    Args:
        page: The page.
        server: Studio.
    """

    def __init__(self, page: Any, server: Any) -> None:
        self._page = page
        self._home = server.url.partition("/?")[0]
        self.asked: List[str] = []
        self._pending: List[Any] = []
        page.on("request", self._asks)
        page.on("requestfinished", self._has)
        page.on("requestfailed", self._has)
        page.goto(server.url)

    def open(self, path: str) -> None:
        """Open a page, and wait for all that it loads but its stream."""
        self._page.goto(self._home + path)
        until(lambda: self._page.evaluate("0") == 0 and not self._pending)

    def strangers(self) -> List[str]:
        """List what was asked of others."""
        ours = (f"{self._home}/", "data:", "blob:")
        return [url for url in self.asked if not url.startswith(ours)]

    def _asks(self, request: Any) -> None:
        self.asked.append(request.url)
        if "/live" not in request.url:
            self._pending.append(request)

    def _has(self, request: Any) -> None:
        if request in self._pending:
            self._pending.remove(request)


@pytest.fixture
def visit(page: Any, server: Any) -> Iterator[Visit]:
    visit = Visit(page, server)
    yield visit
    page.goto("about:blank")  # its stream ends
    assert visit.strangers() == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_reads_well_at_each_width_in_each_scheme(
    page: Any, visit: Visit, names: Dict[str, str], name: str
) -> None:
    need("axe_playwright_python")
    from axe_playwright_python.sync_playwright import Axe

    axe, found = Axe(), []
    visit.open(PAGES[name].format(**names))
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            where = f"{scheme}, {width} px"
            found += [f"{where}: too wide: {each}" for each in page.evaluate(TOO_WIDE)]
            for each in axe.run(page, options=VIOLATIONS).response["violations"]:
                if each["impact"] in ("serious", "critical"):
                    places = [node["html"] for node in each["nodes"]]
                    found.append(f"{where}: {each['id']}: {each['help']}: {places}")
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_each_control_and_shows_where_it_is(
    page: Any, visit: Visit, names: Dict[str, str], name: str
) -> None:
    visit.open(PAGES[name].format(**names))
    page.evaluate(MARK_CONTROLS)
    missing = set(page.evaluate(CONTROLS))
    for _ in range(3 * len(missing) + 20):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        assert focused["isShown"] or focused["html"].startswith("<body"), focused["html"]
        missing.discard(focused["control"])
        if not missing:
            return
    left = page.evaluate(CONTROLS)
    assert [left[each] for each in missing if each in left] == []


def test_the_checks_find_what_is_wrong(page: Any, visit: Visit, names: Dict[str, str]) -> None:
    """A page that is made bad shows that none of them passes whatever it is given."""
    from axe_playwright_python.sync_playwright import Axe

    page.set_viewport_size({"width": 360, "height": 900})
    visit.open("/")
    page.evaluate("""() => {
      const main = document.querySelector("main");
      const wide = document.createElement("input");
      wide.style.width = "900px"; wide.style.maxWidth = "none"; wide.style.outline = "none";
      main.append(wide);
    }""")
    assert "the page" in page.evaluate(TOO_WIDE)
    violations = Axe().run(page, options=VIOLATIONS).response["violations"]
    assert "label" in {each["id"] for each in violations if each["impact"] == "critical"}
    page.evaluate("document.querySelector('main input').focus()")
    assert not page.evaluate(FOCUSED)["isShown"]
