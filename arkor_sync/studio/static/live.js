// What is new on the server, of all that this tab shows: over one stream, or by asking every 2 s
// where the server has no stream left. It goes on behind what was told last, whatever was between.

import { root } from "./page.js";

const SILENCE = 40_000; // the server gives a sign of life every 15 s
const HIDDEN = 60_000; // a tab that nobody sees gives its stream back after this
const ASK = 2_000;
const ASKS = 15; // after so many, a stream may be free
const LONGEST = 10_000; // between two attempts

const watched = new Map(); // topic -> { next, handler }
let turn = 0; // a new one ends the loop of the one before
let connection = null; // the request under way
let wake = () => {};
let hiddenSince = 0;
let pausing = 0;

// Calls handler with each message of a topic ("job:ID" or "jobs") from `next` on; the result ends
// it. A later call for the same topic takes its place.
export function watch(topic, next, handler) {
  const watcher = { next, handler };
  watched.set(topic, watcher);
  begin();
  return () => {
    if (watched.get(topic) !== watcher) return;
    watched.delete(topic);
    begin();
  };
}

function begin() {
  const mine = ++turn;
  connection?.abort();
  wake();
  queueMicrotask(() => { if (mine === turn) follow(mine); }); // several topics, one request
}

async function follow(mine) {
  const goesOn = () => mine === turn && watched.size > 0 && !hiddenSince;
  let failures = 0;
  let asks = 0; // left before a stream is asked for again
  while (goesOn()) {
    try {
      if (asks > 0) {
        await request(true, () => { failures = 0; say(""); });
        asks -= 1;
        if (goesOn()) await pause(ASK);
      } else if (!await request(false, () => { failures = 0; say(""); })) {
        asks = ASKS;
      } else if (goesOn()) {
        await pause(200); // the server ended it: it is closing, or asks to begin anew
      }
    } catch (error) {
      if (!goesOn()) return;
      failures += 1;
      say(navigator.onLine ? `Not connected (${error.message}); trying again.` : "Offline.");
      await pause(Math.min(LONGEST, 250 * 2 ** failures));
    }
  }
}

// Makes one request; returns false if the server has no stream for it.
async function request(polls, opened) {
  const url = new URL("live", new URL(root, location));
  for (const [topic, { next }] of watched) url.searchParams.append("watch", `${topic}:${next}`);
  if (polls) url.searchParams.set("poll", "1");
  const mine = connection = new AbortController();
  let guard = setTimeout(() => mine.abort(), SILENCE);
  try {
    const answer = await fetch(url, { signal: mine.signal, headers: { Accept: "application/json" } });
    if (answer.status === 429) return false;
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    if (polls) {
      const messages = await answer.json();
      opened();
      for (const message of messages) tell(message, mine);
      return true;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      clearTimeout(guard);
      guard = setTimeout(() => mine.abort(), SILENCE);
      opened();
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) tell(JSON.parse(part.slice(6)), mine);
    }
  } finally {
    clearTimeout(guard);
  }
}

function tell(message, from) {
  const watcher = watched.get(message.topic);
  if (!watcher || from !== connection || from.signal.aborted) return;
  watcher.next = message.next;
  try { watcher.handler(message); } catch (error) { reportError(error); }
}

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => { clearTimeout(timer); resolve(); };
  });
}

function say(text) {
  const shown = document.getElementById("connection");
  if (shown && shown.textContent !== text) shown.textContent = text;
}

function leave() {
  hiddenSince = Date.now();
  turn += 1;
  connection?.abort();
  wake();
}

function comeBack() {
  clearTimeout(pausing);
  if (!hiddenSince) return;
  hiddenSince = 0;
  begin();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(pausing);
  if (document.hidden) pausing = setTimeout(leave, HIDDEN);
  else comeBack();
});
addEventListener("pagehide", leave); // else the browser keeps no copy for its back button
addEventListener("pageshow", comeBack);
addEventListener("online", () => { if (!hiddenSince) begin(); });
addEventListener("offline", () => { say("Offline."); connection?.abort(); });
