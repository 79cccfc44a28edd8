// The page of a job: its charts, statistics, events and what is live of it.
import { ask, confirmed, durationText, element, notice, showTimes } from "./page.js";
import { Chart, numberText } from "./chart.js";
import { watch } from "./live.js";
import { EventList, failed } from "./events.js";

const at = (id) => document.getElementById(id);
const job = at("job").dataset;
const COLUMNS = 1500; // points of a curve that are asked for
const MOST = 9000; // points that the charts may hold until they are asked for again
const METRICS = [["loss", "Train loss"], ["eval_loss", "Eval loss"], ["learning_rate", "Learning rate"], ["samples_per_second", "Samples a second"]];
const TERMINAL = new Set(["completed", "failed", "cancelled"]);
// A row of the stream: step, loss, eval_loss, learning_rate, epoch, samples_per_second, seconds.
const COLUMN_OF_X = { step: 0, epoch: 4, time: 6 };
// A checkpoint of the stream: step, epoch, seconds.
const AXES = ["step", "epoch", "time"];

const state = { status: at("status").textContent.trim(), tap: null, step: null, total: null, next: 0, marks: [], connection: "", asked: 0, fresh: true };
const x = () => at("x").value;
const seconds = (value) => (value < 60 ? `${numberText(value)} s` : durationText(value));

const options = (label) => ({ label, spoken: at("spoken"), onView: (view) => viewed(view) });
const charts = [
  new Chart(at("loss"), options("Loss")),
  new Chart(at("learning_rate"), options("Learning rate")),
  new Chart(at("samples_per_second"), options("Samples a second")),
];
const [loss, rate, speed] = charts;

// The points of what is shown; called again for another axis, another view, or too many new logs.
async function load() {
  const turn = ++state.asked;
  const query = new URLSearchParams({ x: x(), count: COLUMNS });
  const view = loss.view;
  if (view) { query.set("from", view[0]); query.set("to", view[1]); }
  const points = await ask(`${job.path}/points?${query}`);
  if (turn !== state.asked) return null; // the reader has gone on
  Object.assign(state, { tap: points.tap, next: points.next, fresh: true });
  if (!view) state.extent = points.x_range;
  const curve = (name, text, color, dots = false) => {
    const [xs, ys] = points.series[name] ?? [[], []];
    return { name: text, x: xs, y: ys, color, dots };
  };
  loss.setCurves([curve("loss", "train loss", "--curve-1"), curve("eval_loss", "eval loss", "--curve-2", true)], state.extent);
  rate.setCurves([curve("learning_rate", "learning rate", "--curve-3")], state.extent);
  speed.setCurves([curve("samples_per_second", "samples a second", "--curve-5")], state.extent);
  mark(points.checkpoints.map((each) => each[1]));
  showCheckpoints(points.checkpoints.map((each) => each[0]));
  showStatistics(points.statistics);
  showRange();
  showTable();
  showSmall();
  at("charts").hidden = false;
  return points;
}

// The small charts are there if the job logs what they show.
function showSmall() {
  if (loss.view) return;
  at("learning_rate").parentElement.hidden = !rate.points;
  at("samples_per_second").parentElement.hidden = !speed.points;
}

function mark(marks) {
  state.marks = marks;
  loss.setMarks(marks, "checkpoint");
}

let waiting = 0;
function soon(delay, again = false) {
  if (waiting && !again) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => { waiting = 0; load().catch(failed); }, delay);
}

function viewed(view) {
  for (const each of charts) each.setView(view);
  showRange();
  soon(150, true);
}

function showRange() {
  const view = loss.view ?? state.extent;
  const text = { step: (step) => numberText(Math.round(step)), epoch: numberText, time: seconds }[x()];
  at("shown-range").textContent = view ? `${loss.view ? "Part" : "All"}: ${x()} ${text(view[0])} to ${text(view[1])}` : "";
  at("zoom-all").disabled = !loss.view;
}

function showTable() {
  if (!at("values").open) return;
  const [head, body] = at("values").querySelectorAll("thead, tbody");
  head.replaceChildren(element("tr", {}, [x(), "train loss", "eval loss"].map((each) => element("th", { class: "number" }, each))));
  const text = (value) => (value === null ? "" : numberText(value));
  body.replaceChildren(...loss.rows(300).map((row) => element("tr", {}, row.map((each) => element("td", { class: "number" }, text(each))))));
}

function showStatistics(statistics) {
  const rows = METRICS.filter(([name]) => statistics[name]?.count).map(([name, title]) => {
    const all = statistics[name];
    const best = all.best === undefined || all.best === null ? "–" : `${numberText(all.best)} at ${numberText(all.best_step)}`;
    const mean = Number.isFinite(all.half_width) ? `${numberText(all.mean)} ± ${numberText(all.half_width)}` : numberText(all.mean);
    const cells = [numberText(all.last), best, mean, numberText(all.std), numberText(all.p90), numberText(all.p95), all.count.toLocaleString("en")];
    return element("tr", {}, element("th", { scope: "row" }, title), cells.map((each) => element("td", { class: "number" }, each)));
  });
  at("statistics").hidden = !rows.length;
  at("statistics").querySelector("tbody").replaceChildren(...rows);
}

const shownCheckpoints = new Set([...at("checkpoints").querySelectorAll("[data-step]")].map((each) => Number(each.dataset.step)));
function showCheckpoints(steps) {
  for (const step of steps) {
    if (shownCheckpoints.has(step)) continue;
    shownCheckpoints.add(step);
    const url = new URL(job.playground, location);
    url.searchParams.set("step", step);
    at("checkpoints").append(element("li", {}, element("a", { href: url.pathname + url.search }, `Step ${step}`)));
  }
  at("no-checkpoints").hidden = shownCheckpoints.size > 0;
}

// The status, progress and times.
function showFacts(facts) {
  const changed = facts.status !== state.status;
  Object.assign(state, { status: facts.status, step: facts.step ?? state.step, total: facts.total_steps ?? state.total });
  const known = ["queued", "running", "completed", "failed", "cancelled"].includes(facts.status);
  if (changed) at("status").replaceChildren(element("span", { class: `status status-${known ? facts.status : "other"}` }, facts.status));
  at("error").hidden = !facts.error;
  at("error").textContent = facts.error ?? "";
  at("cancel").hidden = TERMINAL.has(facts.status);
  if ("created_at" in facts) {
    for (const [id, when] of [["started", facts.started_at], ["ended", facts.completed_at]]) {
      at(id).replaceChildren(when ? element("time", { datetime: when }, when) : "–");
    }
    state.since = Date.parse(facts.started_at ?? "");
    const until = Date.parse(facts.completed_at ?? "");
    const text = durationText(((until || Date.now()) - state.since) / 1000);
    at("duration").replaceChildren(state.since ? element("span", { "data-since": facts.started_at, "data-until": facts.completed_at }, text) : "–");
    showTimes(at("job"));
  }
  showProgress();
  showTitle();
  return changed;
}

function showProgress() {
  const running = !TERMINAL.has(state.status);
  at("progress").hidden = state.step === null;
  if (state.step === null) return;
  const parts = [state.total ? `Step ${state.step.toLocaleString("en")} of ${state.total.toLocaleString("en")}` : `Step ${state.step.toLocaleString("en")}`];
  at("bar").hidden = !state.total;
  if (state.total) {
    at("bar").max = state.total;
    at("bar").value = Math.min(state.step, state.total);
    const left = ((Date.now() - state.since) / 1000 / state.step) * (state.total - state.step);
    if (running && state.step > 0 && left > 0) parts.push(`about ${durationText(left)} left`);
  }
  if (running && state.connection && state.connection !== "live") parts.push(`stream: ${state.connection}`);
  at("steps").textContent = parts.join(", ");
}

// The tab tells how it goes: a percentage, and a dot in the colour of the status.
const SIGNS = { queued: "#b07a00", running: "#2c50c0", completed: "#1c8f50", failed: "#c62820", cancelled: "#7a8499" };
function showTitle() {
  const share = state.status === "running" && state.total && state.step ? `${Math.floor((100 * state.step) / state.total)} % ` : "";
  const word = state.status.charAt(0).toUpperCase() + state.status.slice(1);
  document.title = `${share}${word} · ${at("name").textContent} · Arkor`;
  const color = SIGNS[state.status] ?? SIGNS.cancelled;
  const hole = state.status === "running" ? `<circle cx='8' cy='8' r='3' fill='white'/>` : "";
  const icon = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${color}'/>${hole}</svg>`;
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
}

function live(message) {
  const changed = showFacts({ ...message, step: message.step ?? state.step });
  const ends = message.connection === "ended" && state.connection !== "ended";
  state.connection = message.connection;
  showProgress();
  const again = x() === "step" && message.step < (loss.extent?.[1] ?? 0); // the training began again
  if (message.jump || message.tap !== state.tap || changed) soon(500);
  else if (message.next > state.next && again) soon(3000);
  else if (message.next > state.next) add(message);
  if (ends && !state.fresh) soon(500); // once more, with the statistics of all
  events.refresh();
  if (changed) ask(`${job.path}/facts`).then(showFacts, failed);
}

function add({ logs, checkpoints }) {
  const column = COLUMN_OF_X[x()];
  const placed = logs.filter((log) => log[column] !== null);
  loss.append(placed.map((log) => [log[column], log[1], log[2]]));
  rate.append(placed.map((log) => [log[column], log[3]]));
  speed.append(placed.map((log) => [log[column], log[5]]));
  if (checkpoints.length) mark([...state.marks, ...checkpoints.map((each) => each[AXES.indexOf(x())])]);
  showCheckpoints(checkpoints.map((each) => each[0]));
  state.extent = loss.extent;
  state.fresh = false;
  showSmall();
  showRange();
  if (charts.some((each) => each.points > MOST)) soon(500);
}

at("x").addEventListener("change", () => {
  for (const each of charts) each.setOptions({ xName: x(), xText: x() === "time" ? seconds : numberText });
  viewed(null);
});
at("log").addEventListener("change", () => loss.setOptions({ log: at("log").checked }));
at("smoothing").addEventListener("input", () => {
  at("smoothing-value").textContent = at("smoothing").value;
  for (const each of charts) each.setOptions({ smoothing: Number(at("smoothing").value) });
});
at("zoom-in").addEventListener("click", () => loss.zoom(0.5));
at("zoom-out").addEventListener("click", () => loss.zoom(2));
at("zoom-all").addEventListener("click", () => viewed(null));
at("values").addEventListener("toggle", showTable);
at("cancel").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!await confirmed("Cancel this job? What it has trained so far is kept in its checkpoints.", "Cancel the job")) return;
  try {
    await ask(at("cancel").getAttribute("action"), { method: "POST" });
    notice("The cloud has been asked to cancel the job.");
  } catch (error) {
    failed(error);
  }
});

const events = new EventList(job.path);
at("events").hidden = false;
setInterval(showProgress, 5000);
// Statistics, and the table, follow the curves from time to time.
setInterval(() => { if (!state.fresh && !document.hidden) soon(0); }, 30000);
ask(`${job.path}/facts`).then(showFacts, failed);
const points = await load().catch(failed);
watch(`job:${job.id}`, points?.next ?? 0, live);
