// One prompt, or several, asked of all models of a job, and how each answer differs from the last.
import { element } from "./page.js";
import { callsOf, factsOf, fill, modelsOf, newAnswer, readSettings, showText } from "./chat.js";

const byId = (id) => document.getElementById(id);
const form = byId("prompts");
const boxes = byId("models");
let models = []; // {name, asked}
let shown = { prompts: [], rows: [] }; // rows: {model, answers}
let running = null;

async function look() {
  try {
    const found = await modelsOf(form.dataset.job);
    const job = (step, name) => ({ name, asked: { job: found.id, step } });
    models = [{ name: `base: ${found.base}`, asked: { base: found.base } },
      ...found.steps.map((step) => job(step, `step ${step}`)), ...(found.final ? [job(null, "final")] : [])];
    boxes.replaceChildren(...models.map((model, number) => element("label", {},
      element("input", { type: "checkbox", checked: true, value: number }), ` ${model.name}`)));
    byId("run").disabled = false;
  } catch (error) {
    boxes.replaceChildren(element("p", { class: "problem", role: "alert" }, error.message),
      element("button", { type: "button", onclick: look }, "Try again"));
  }
}

async function run() {
  const settings = readSettings();
  const prompts = byId("questions").value.split("\n").filter((line) => line.trim());
  const asked = [...boxes.querySelectorAll("input:checked")].map((each) => models[each.value]);
  if (running || settings === null) return;
  if (!prompts.length || !asked.length) {
    byId("state").textContent = prompts.length ? "Choose at least one model." : "Write a prompt first.";
    (prompts.length ? boxes.querySelector("input") : byId("questions")).focus();
    return;
  }
  running = new AbortController();
  shown = { prompts, rows: asked.map((model) => ({ model, answers: prompts.map(() => null) })) };
  const system = byId("system").value;
  let [done, failed] = [0, 0];
  const all = prompts.length * asked.length;
  const tell = (text) => { Object.assign(byId("progress"), { value: done, max: all }); byId("state").textContent = text; };
  showTable();
  for (const [row, { model, answers }] of shown.rows.entries()) {
    for (const [column, prompt] of prompts.entries()) {
      if (running.signal.aborted) break;
      tell(`Asking ${model.name}: answer ${done + 1} of ${all}`);
      const answer = answers[column] = newAnswer(model.name);
      const messages = [...(system.trim() ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
      showCell(row, column);
      await fill(answer, { ...settings, model: model.asked, messages }, running.signal, () => showCell(row, column, true));
      showCell(row, column);
      if (answer.state !== "stopped") done += 1;
      if (answer.error) failed += 1;
    }
  }
  const stopped = running.signal.aborted;
  running = null;
  tell(`${stopped ? "Stopped" : "Ended"}: ${done} of ${all} answers${failed ? `, ${failed} of them failed` : ""}.`);
  showButtons();
}

function showButtons() {
  byId("run").disabled = running !== null;
  byId("stop").hidden = running === null;
  byId("progress").hidden = running === null;
  byId("copies").hidden = !shown.rows.length || running !== null;
}

function showTable() {
  byId("answers").replaceChildren(element("table", { class: "answers-table" },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Model"),
      shown.prompts.map((each) => element("th", { scope: "col", dir: "auto" }, each)))),
    element("tbody", {}, shown.rows.map(({ model, answers }) => element("tr", {},
      element("th", { scope: "row" }, model.name), answers.map(() => element("td", {}, "–")))))));
  shown.rows.forEach((_, row) => shown.prompts.forEach((_, column) => showCell(row, column)));
  showButtons();
}

// The text of an answer; calls of tools are shown as JSON.
const textOf = (answer) => answer.text || callsOf(answer);

// While an answer is written it is shown as it is, and then with its differences.
function showCell(row, column, plain = false) {
  const answer = shown.rows[row].answers[column];
  if (!answer) return;
  const cell = byId("answers").querySelector("tbody").rows[row].cells[column + 1];
  const last = shown.rows.slice(0, row).map((each) => each.answers[column]).findLast((each) => each && textOf(each));
  let parts = [["same", textOf(answer)]];
  let told = "";
  if (!plain && byId("differences").checked && last && answer.state !== "open" && textOf(answer)) {
    parts = differences(textOf(last), textOf(answer));
    const count = (kind) => parts.filter((each) => each[0] === kind).reduce((sum, each) => sum + words(each[1]).length, 0);
    const [added, removed] = [count("ins"), count("del")];
    told = added || removed ? `changed since ${last.name}: ${added} inserted, ${removed} removed` : `the same as ${last.name}`;
  }
  cell.replaceChildren(
    element("div", { class: "said", dir: "auto" }, parts.map(([kind, text]) => (kind === "same" ? text : element(kind, {}, text)))),
    ...(answer.error ? [element("p", { class: "problem" }, answer.error)] : []),
    element("p", { class: "soft told" }, [told, factsOf(answer)].filter(Boolean).join(" · ")));
}

// Words and marks, with the blanks behind them; a script without blanks is split at each character.
const WORDS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]\s*|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}])[\p{L}\p{M}\p{N}_'’-])+\s*|\S\s*|\s+/gu;
const words = (text) => text.match(WORDS) ?? [];

const MOST_CELLS = 4_000_000; // of the table of the longest common subsequence

// Returns [kind, text] in order, of the kinds "same", "del" and "ins".
export function differences(before, after) {
  const [old, now] = [words(before), words(after)];
  const same = (i, j) => old[i].trim() === now[j].trim();
  let start = 0;
  while (start < old.length && start < now.length && same(start, start)) start += 1;
  let [oldEnd, nowEnd] = [old.length, now.length];
  while (oldEnd > start && nowEnd > start && same(oldEnd - 1, nowEnd - 1)) { oldEnd -= 1; nowEnd -= 1; }
  const parts = [];
  const add = (kind, text) => {
    if (parts.at(-1)?.[0] === kind) parts.at(-1)[1] += text;
    else parts.push([kind, text]);
  };
  now.slice(0, start).forEach((word) => add("same", word));
  const [height, width] = [oldEnd - start, nowEnd - start];
  if (height * width > MOST_CELLS) {
    add("del", old.slice(start, oldEnd).join(""));
    add("ins", now.slice(start, nowEnd).join(""));
  } else {
    const line = width + 1;
    const longest = new Uint16Array((height + 1) * line); // of the rests from (i, j)
    for (let i = height - 1; i >= 0; i -= 1) {
      for (let j = width - 1; j >= 0; j -= 1) {
        longest[i * line + j] = same(start + i, start + j) ? longest[(i + 1) * line + j + 1] + 1
          : Math.max(longest[(i + 1) * line + j], longest[i * line + j + 1]);
      }
    }
    let [i, j] = [0, 0];
    while (i < height || j < width) {
      if (i < height && j < width && same(start + i, start + j)) { add("same", now[start + j]); i += 1; j += 1; }
      else if (j >= width || (i < height && longest[(i + 1) * line + j] >= longest[i * line + j + 1])) { add("del", old[start + i]); i += 1; }
      else { add("ins", now[start + j]); j += 1; }
    }
  }
  now.slice(nowEnd).forEach((word) => add("same", word));
  return parts;
}

const KEYS = ["model", "prompt", "answer", "state", "reason", "tokens", "seconds", "error"];
function records() {
  return shown.rows.flatMap(({ model, answers }) => answers.map((answer, column) => ({
    ...Object.fromEntries(KEYS.map((key) => [key, answer?.[key] ?? null])),
    model: model.name, prompt: shown.prompts[column], answer: answer && textOf(answer),
  })));
}

// A spreadsheet must not run a text: a quote before it stops that.
function cell(value) {
  let text = String(value ?? "");
  if (typeof value === "string" && /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
byId("stop").addEventListener("click", () => running?.abort());
addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog[open]")) running?.abort(); });
byId("differences").addEventListener("change", () => { if (shown.rows.length) showTable(); });
byId("csv").addEventListener("click", () => showText("The answers as CSV",
  [KEYS, ...records().map((each) => Object.values(each))].map((line) => line.map(cell).join(",")).join("\r\n")));
byId("json").addEventListener("click", () => showText("The answers as JSON", JSON.stringify(records(), null, 2)));
look();
