// The playground: one conversation with one model or two, kept in the browser alone.
import { ask, confirmed, element, notice, root } from "./page.js";
import { callsOf, factsOf, fill, modelsOf, newAnswer, rawSettings, readSettings, showSettings, showText } from "./chat.js";

const byId = (id) => document.getElementById(id);
const form = byId("playground");
const prompt = byId("prompt");
const KEY = `arkor-studio-chat:${root}`;

// What is kept: {models: [{model, step}], two, settings, draft, turns: [{prompt, answers}]}.
const kept = load();
let editing = false; // whether the last question is in the field, to be asked anew
let asking = null; // ends the answers that are being written

// A tab has its own conversation; a new tab of a server of our own goes on with the newest.
function load() {
  let value = null;
  try { value = JSON.parse(sessionStorage.getItem(KEY) ?? (form.dataset.keep === "browser" ? localStorage.getItem(KEY) : null)); } catch { /* not ours */ }
  if (!Array.isArray(value?.turns)) value = { models: [], two: false, settings: {}, draft: "", turns: [] };
  for (const answer of value.turns.flatMap((turn) => turn.answers)) {
    if (answer.state === "open") Object.assign(answer, { state: "cut", error: "The page was left before the end of the answer." });
  }
  return value;
}

let full = false;
function save() {
  Object.assign(kept, { settings: rawSettings(), draft: prompt.value, models: pickers.map((each) => each.value()) });
  const text = JSON.stringify(kept);
  try {
    sessionStorage.setItem(KEY, text);
    if (form.dataset.keep === "browser") localStorage.setItem(KEY, text);
    full = false;
  } catch {
    if (!full) notice("This browser keeps no more: the newest part of the conversation is lost when the page is left.", true);
    full = true;
  }
}

let saving = null;
function saveSoon() { saving ??= setTimeout(() => { saving = null; save(); }, 300); }

// The choice of a model, and for a job of its final adapter or a checkpoint.
function picker(box) {
  const [model, step, problem] = [".model", ".step", ".field .problem"].map((each) => box.querySelector(each));
  let name = ""; // of the job
  let wanted = ""; // a step, until the job's steps are known
  let ready = null;
  async function look() {
    const job = model.value.startsWith("job:") ? model.value.slice(4) : null;
    step.closest(".field").hidden = job === null;
    problem.hidden = true;
    if (job === null) return;
    try {
      const found = await modelsOf(job);
      if (model.value !== `job:${job}`) return; // another was chosen meanwhile
      name = found.name;
      const steps = [...(found.final ? [""] : []), ...found.steps.reverse().map(String)];
      if (steps.join() !== [...step.options].map((each) => each.value).join()) {
        const now = step.options.length ? step.value : wanted;
        step.replaceChildren(...steps.map((each) => element("option", { value: each }, each ? `checkpoint at step ${each}` : "final adapter")));
        if (steps.includes(now)) step.value = now;
      }
      if (!steps.length) throw new Error("This job has neither a final adapter nor a checkpoint until now.");
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  }
  const start = (choice = "") => { wanted = choice; step.replaceChildren(); ready = look(); };
  model.addEventListener("change", () => { start(); saveSoon(); showAddress(); });
  step.addEventListener("change", () => { saveSoon(); showAddress(); });
  step.addEventListener("focus", look); // a job that runs has new ones
  const isBase = () => model.value.startsWith("base:");
  const chosenStep = () => (step.options.length ? step.value : wanted);
  return {
    box,
    ready: () => ready,
    choose(choice) {
      if (choice?.model && [...model.options].some((each) => each.value === choice.model)) model.value = choice.model;
      start(choice?.step);
    },
    value: () => ({ model: model.value, step: chosenStep() }),
    name: () => (isBase() ? model.value.slice(5) : `${name} @ ${chosenStep() || "final"}`),
    asked: () => (isBase() ? { base: model.value.slice(5) }
      : { job: model.value.slice(4), step: chosenStep() ? Number(chosenStep()) : null }),
  };
}

const pickers = ["first", "second"].map((id) => picker(byId(id)));
const chosen = () => pickers.slice(0, kept.two ? 2 : 1);

// The address names the first model, so that it can be kept as a bookmark.
function showAddress() {
  const { base, job, step } = pickers[0].asked();
  const named = new URLSearchParams(base ? { base } : step === null ? { job } : { job, step });
  history.replaceState(null, "", `?${named}`);
}

// What has been said, for one of the models. A question without an answer is no part of it.
function messagesOf(turns, side, question) {
  const messages = [];
  const system = byId("system").value;
  if (system.trim()) messages.push({ role: "system", content: system });
  for (const turn of turns) {
    const answer = turn.answers[side] ?? turn.answers[0];
    const content = answer.text || callsOf(answer);
    if (content) messages.push({ role: "user", content: turn.prompt }, { role: "assistant", content });
  }
  return [...messages, { role: "user", content: question }];
}

async function send(question, turns) {
  const settings = readSettings();
  if (asking || settings === null || !question.trim()) return;
  asking = new AbortController();
  showButtons();
  await Promise.all(chosen().map((each) => each.ready()));
  const answers = chosen().map((each) => newAnswer(each.name()));
  const bodies = chosen().map((each, side) => ({ ...settings, model: each.asked(), messages: messagesOf(turns, side, question) }));
  kept.turns = [...turns, { prompt: question, answers }];
  editing = false;
  if (prompt.value === question) prompt.value = ""; // else it is a draft
  showTurns();
  save();
  const shown = byId("turns").lastElementChild;
  const end = document.querySelector(".chat-ask");
  prompt.focus({ preventScroll: true }); // the button is disabled now
  end.scrollIntoView({ block: "nearest" });
  await Promise.all(answers.map((answer, side) => {
    const bubble = shown.querySelectorAll(".answer")[side];
    return fill(answer, bodies[side], asking.signal, (piece) => {
      const follows = end.getBoundingClientRect().bottom <= innerHeight + 10; // unless the reader has scrolled up
      showAnswer(bubble, answer, piece);
      if (follows) end.scrollIntoView({ block: "nearest" });
      saveSoon();
    });
  }));
  asking = null;
  save();
  showButtons();
}

function showTurns() {
  byId("turns").replaceChildren(...kept.turns.map((turn) => element("article", { class: "turn" },
    element("p", { class: "asked", dir: "auto" }, turn.prompt),
    element("div", { class: "answers" }, turn.answers.map((answer) => {
      const bubble = element("section", { class: "answer", "aria-label": answer.name },
        element("h2", { dir: "auto" }, answer.name), element("p", { class: "said", dir: "auto" }),
        element("pre", { class: "calls", hidden: true }), element("p", { class: "problem", hidden: true }), element("p", { class: "soft told" }));
      showAnswer(bubble, answer, answer.text);
      return bubble;
    })))));
  showButtons();
}

function showAnswer(bubble, answer, piece) {
  const at = (selector) => bubble.querySelector(selector);
  if (piece) at(".said").append(piece);
  at(".said").hidden = !answer.text;
  at(".calls").textContent = callsOf(answer);
  at(".calls").hidden = !answer.calls?.length;
  at(".problem").textContent = answer.error ?? "";
  at(".problem").hidden = !answer.error;
  at(".told").textContent = factsOf(answer);
  bubble.setAttribute("aria-busy", answer.state === "open");
}

function showButtons() {
  const [some, busy] = [kept.turns.length > 0, asking !== null];
  byId("nothing").hidden = some;
  byId("send").disabled = busy;
  byId("send").textContent = editing ? "Ask instead of the last question" : "Ask";
  byId("prompt-label").textContent = editing ? "The last question, changed" : "Your question";
  byId("stop").hidden = !busy;
  for (const id of ["edit", "again", "clear"]) byId(id).hidden = !some || busy || editing;
  byId("second").hidden = !kept.two;
  byId("compare").setAttribute("aria-pressed", kept.two);
  byId("compare").textContent = kept.two ? "Ask one model alone" : "Ask a second model too";
}

function edit(on) {
  if (on && !kept.turns.length) return;
  editing = on;
  prompt.value = on ? kept.turns.at(-1).prompt : "";
  showButtons();
  prompt.focus();
}

const before = () => kept.turns.slice(0, -1);
form.addEventListener("submit", (event) => { event.preventDefault(); send(prompt.value, editing ? before() : kept.turns); });
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (asking) asking.abort();
  else if (editing) edit(false);
});
byId("stop").addEventListener("click", () => { asking?.abort(); prompt.focus(); });
byId("edit").addEventListener("click", () => edit(true));
byId("again").addEventListener("click", () => send(kept.turns.at(-1).prompt, before()));
byId("clear").addEventListener("click", async () => {
  if (!await confirmed("Clear the conversation? It is kept nowhere else.", "Clear")) return;
  kept.turns = [];
  showTurns();
  save();
  prompt.focus();
});
byId("compare").addEventListener("click", () => { kept.two = !kept.two; showButtons(); save(); });
pickers.forEach((each, side) => each.box.querySelector(".python").addEventListener("click", async () => {
  const settings = readSettings();
  const question = prompt.value.trim() ? prompt.value : kept.turns.at(-1)?.prompt;
  if (settings === null || !question) { if (!question) notice("Write a question first."); return; }
  const turns = prompt.value.trim() && !editing ? kept.turns : before();
  try {
    const body = { ...settings, model: each.asked(), messages: messagesOf(turns, side, question) };
    showText("The same in Python", (await ask("playground/python", { method: "POST", body })).code);
  } catch (error) { notice(error.message, true); }
}));
form.addEventListener("input", saveSoon);
addEventListener("pagehide", save);

showSettings(kept.settings);
prompt.value = kept.draft ?? "";
const { chosen: wanted, step } = byId("first").dataset;
pickers[0].choose(wanted ? { model: wanted, step } : kept.models[0]);
pickers[1].choose(kept.models[1]);
showTurns();
