// Asking models: the stream of an answer, the settings, and texts to copy. Both pages use it.
import { ask, element, notice, root } from "./page.js";

const CUT = "The connection was cut before the end of the answer.";

// Asks, and yields the server's lines: {text}, and last {end} or {error}.
async function* lines(question, signal) {
  const answer = await fetch(new URL("chat", new URL(root, location)), {
    method: "POST", signal, body: JSON.stringify(question),
    headers: {
      Accept: "application/json", "Content-Type": "application/json",
      "X-Arkor-Form": document.documentElement.dataset.formToken,
    },
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  });
  if (!answer.ok) throw new Error(await problemOf(answer));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(CUT);
    });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

async function problemOf(answer) {
  if (answer.status === 413) return "The conversation is longer than 1 MB. Clear it, or begin a new one.";
  const text = await answer.text();
  try { return JSON.parse(text).error; } catch { /* a page */ }
  const page = new DOMParser().parseFromString(text, "text/html");
  return page.querySelector(".problem, p")?.textContent ?? `The server answered ${answer.status}.`;
}

// Fills an answer {name, state, text, ...} as it comes, and calls `changed` after each piece.
// Its state is "open", and then "done", "stopped", "failed" or "cut".
export async function fill(answer, question, signal, changed) {
  let began = null;
  try {
    for await (const line of lines(question, signal)) {
      if (line.text) {
        began ??= performance.now();
        answer.text += line.text;
        answer.tokens = (answer.tokens ?? 0) + 1;
        answer.seconds = (performance.now() - began) / 1000;
      } else if (line.end) {
        const { reason, calls, tokens, pieces, seconds } = line.end;
        Object.assign(answer, { state: "done", reason, calls, tokens: tokens ?? pieces, seconds, counted: tokens !== null });
      } else {
        Object.assign(answer, { state: "failed", error: line.error });
      }
      changed(line.text);
    }
    if (answer.state === "open") throw new Error(CUT);
  } catch (error) {
    if (signal.aborted) answer.state = "stopped";
    else Object.assign(answer, { state: "failed", error: error.message });
  }
  if (answer.state === "failed" && answer.text) answer.state = "cut";
  changed();
}

export function newAnswer(name) { return { name, state: "open", text: "" }; }

// What there is to say about an answer, on one line.
export function factsOf(answer) {
  const facts = [];
  if (answer.state === "open") facts.push(answer.text ? "writing" : "waiting");
  if (answer.state === "stopped") facts.push("stopped");
  if (answer.state === "cut") facts.push("cut: this is not the whole answer");
  if (answer.state === "done" && !answer.text && !answer.calls?.length) facts.push("the answer is empty");
  if (answer.tokens) facts.push(`${answer.counted ? "" : "about "}${answer.tokens} token${answer.tokens === 1 ? "" : "s"}`);
  if (answer.tokens > 1 && answer.seconds > 0) facts.push(`${rate((answer.tokens - 1) / answer.seconds)} tokens a second`);
  if (answer.reason) facts.push(`finish reason: ${answer.reason}`);
  return facts.join(" · ");
}

const rate = (value) => (value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString());
export const callsOf = (answer) => (answer.calls?.length ? JSON.stringify(answer.calls, null, 2) : "");

const FIELDS = ["system", "temperature", "top_p", "max_tokens", "schema", "tools"];
const field = (name) => document.getElementById(name);
export const rawSettings = () => Object.fromEntries(FIELDS.map((name) => [name, field(name).value]));
export function showSettings(values) {
  for (const name of FIELDS) if (values?.[name]) field(name).value = values[name];
}

// Returns the settings of a question; null if one of them cannot work, which is then shown.
export function readSettings() {
  const [schema, tools] = [json("schema", isObject, "an object, such as {\"type\": \"object\"}"), json("tools", Array.isArray, "a list")];
  const numbers = ["temperature", "top_p", "max_tokens"].map(field);
  const wrong = numbers.find((each) => !each.checkValidity()) ?? (schema === null ? field("schema") : tools === null ? field("tools") : null);
  if (wrong) {
    field("settings").open = true;
    wrong.focus();
    wrong.reportValidity();
    return null;
  }
  const settings = { schema, tools };
  for (const each of numbers) if (each.value) settings[each.id] = each.valueAsNumber;
  return settings;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function json(name, fits, wanted) {
  const text = field(name).value.trim();
  const shown = field(`${name}-problem`);
  let value, problem = "";
  if (text) {
    try {
      value = JSON.parse(text);
      if (!fits(value)) problem = `This has to be ${wanted}.`;
    } catch (error) { problem = `This is no JSON: ${error.message}`; }
  }
  shown.textContent = problem;
  shown.hidden = !problem;
  field(name).toggleAttribute("aria-invalid", Boolean(problem));
  return problem ? null : value;
}

// Asks what a job has trained: {id, name, base, final, steps}.
export const modelsOf = (job) => ask(`playground/models?job=${encodeURIComponent(job)}`);

// Shows a text in a dialog, from where it can be copied: the clipboard may be out of reach.
export function showText(title, text) {
  const area = element("textarea", { class: "code", rows: 14, readonly: true, "aria-label": title });
  area.value = text;
  const copy = element("button", { type: "button", class: "main", onclick: async () => {
    area.select();
    try { await navigator.clipboard.writeText(text); } catch { document.execCommand("copy"); }
    notice("Copied.");
  } }, "Copy");
  const dialog = element("dialog", { class: "wide", "aria-label": title }, element("h2", {}, title), area,
    element("form", { method: "dialog", class: "buttons" }, copy, element("button", {}, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  area.setSelectionRange(0, 0);
  area.scrollTop = 0;
}
