// The overview: shows what the run prints as it comes, and keeps the other parts fresh.
import { watch } from "./live.js";
import { ask, root, showTimes } from "./page.js";

const EACH = 5000; // milliseconds between two looks at the page
const SOON = 500; // while something is still asked for
const TURN = 500; // between two looks at the output
const MOST = 2000; // lines that the page keeps

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

function seen() { // resolves at once, or when the tab is looked at again
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

let busy = false, again = false;

// Asks for the page anew, and takes over the parts that have changed; one at a time.
async function refresh() {
  again = true;
  if (busy) return;
  busy = true;
  try {
    while (again) {
      again = false;
      await takeOver();
    }
  } catch { // the server is away; the next look may find it again
  } finally {
    busy = false;
  }
}

async function takeOver() {
  const answer = await fetch(new URL(root, location), { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const run = document.getElementById("run"), newRun = fresh.getElementById("run");
  if (newRun && newRun.dataset.run !== run?.dataset.run) { // started here, or in another tab
    if (run) run.replaceWith(newRun); else document.getElementById("trainer").after(newRun);
    follow();
  }
  for (const part of document.querySelectorAll("[data-fresh]")) {
    const other = fresh.getElementById(part.id);
    if (!other || other.innerHTML === parts.get(part.id)) continue;
    parts.set(part.id, other.innerHTML);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    if (part.querySelector("details[open]")) other.querySelector("details")?.setAttribute("open", "");
    part.replaceWith(other);
    if (focused) (like(focused, other) ?? document.getElementById("content")).focus();
  }
  hideReload();
  showTimes();
}

function like(element, within) {
  const all = [...within.querySelectorAll(element.tagName)];
  return all.find((each) => each.textContent === element.textContent);
}

// The source of the parts as the server gave them last: the scripts change times and durations.
const parts = new Map();

function hideReload() {
  for (const each of document.querySelectorAll(".reload")) each.hidden = true;
}

async function follow() {
  const run = document.getElementById("run");
  if (!run || run.dataset.running === undefined) return;
  const output = run.querySelector("#output"), open = run.querySelector("#open-line");
  let next = Number(run.dataset.next), state = null, job = null;
  output.scrollTop = output.scrollHeight;
  while (run.isConnected) {
    await seen();
    let news;
    try {
      news = await ask(`run/output?from=${next}`);
    } catch { // the server is away; the whole page is asked for again, too
      await pause(EACH);
      continue;
    }
    if (String(news.run) !== run.dataset.run) break;
    const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 8;
    if (news.from > next) output.append("… some lines were dropped\n");
    for (const line of news.lines) output.append(`${line}\n`);
    while (output.childNodes.length > MOST) output.firstChild.remove();
    open.textContent = news.open;
    open.hidden = !news.open;
    if (atEnd) output.scrollTop = output.scrollHeight;
    next = news.next;
    if (news.state !== state || news.job !== job) await refresh();
    [state, job] = [news.state, news.job];
    if (!news.running && !news.lines.length) break;
    if (news.lines.length < 500) await pause(TURN);
  }
}

async function keepFresh() {
  for (;;) {
    await pause(document.querySelector(".waiting") ? SOON : EACH);
    await seen();
    await refresh();
  }
}

hideReload();
follow();
keepFresh();
watch("jobs", Number(document.getElementById("newest").dataset.version), refresh);
