// Several jobs in one chart. The curves of those that still run grow.

import { ask, durationText, notice } from "./page.js";
import { Chart, numberText } from "./chart.js";
import { watch } from "./live.js";

const PLACE = { step: 0, loss: 1, eval_loss: 2, learning_rate: 3, epoch: 4, samples_per_second: 5, time: 6 }; // in a log
const MOST_POINTS = 40000; // in the chart; with more, it is drawn anew from fewer

const canvas = document.getElementById("curves");
const tools = document.getElementById("compare-tools").elements;
const jobs = [...document.querySelectorAll("#metrics [data-job]")].map((row, index) => ({
  row, id: row.dataset.job, name: row.dataset.name, color: `--curve-${index + 1}`,
  box: row.querySelector("input"), tap: null, next: 0, answer: null,
}));
let asked = 0; // the number of the last question
let waiting = null;

tools[0].form.hidden = canvas.hidden = false;
const chart = new Chart(canvas, {
  label: "Curves of the jobs", spoken: document.getElementById("spoken"),
  onView: () => { tools.all.disabled = !chart.view; loadSoon(); },
});

// Loads what is in view of all jobs. Of several answers, the newest is shown.
async function load() {
  const mine = ++asked;
  const query = new URLSearchParams({ x: tools.x.value });
  if (chart.view) { query.set("from", chart.view[0]); query.set("to", chart.view[1]); }
  try {
    const answers = await Promise.all(jobs.map((job) => ask(`jobs/${encodeURIComponent(job.id)}/points?${query}`)));
    if (mine !== asked) return;
    jobs.forEach((job, index) => {
      job.answer = answers[index];
      job.tap = job.answer.tap;
      job.next = job.answer.next;
      showNumbers(job);
    });
    draw();
  } catch (error) {
    if (mine === asked) notice(`The curves could not be loaded: ${error.message}`, true);
  }
}

function loadSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(load, 150);
}

const shown = () => jobs.filter((job) => job.box.checked);

function draw() {
  const x = tools.x.value;
  chart.setOptions({
    log: tools.log.checked, smoothing: Number(tools.smoothing.value), xName: x,
    xText: x === "time" ? durationText : numberText,
  });
  const ranges = jobs.map((job) => job.answer?.x_range).filter(Boolean);
  const extent = ranges.length ? [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))] : null;
  chart.setCurves(shown().map(({ name, color, answer }) => {
    const [xs, ys] = answer?.series[tools.metric.value] ?? [[], []];
    return { name, color, x: [...xs], y: [...ys] };
  }), extent);
}

function showNumbers({ row, answer }) {
  const show = (name, value, text) => {
    if (value !== undefined && value !== null) row.querySelector(`[data-value="${name}"]`).textContent = text(value);
  };
  const whole = (value) => value.toLocaleString("en");
  const range = tools.x.value === "step" ? answer.x_range : null;
  if (range) show("steps", range[1], whole);
  for (const metric of ["loss", "eval_loss"]) {
    const told = answer.statistics[metric];
    if (!told) continue;
    show(`${metric}.last`, told.last, numberText);
    show(`${metric}.best`, told.best, numberText);
    show(`${metric}.best_step`, told.best_step, whole);
    const steps = answer.checkpoints.map(([step]) => step);
    if (chart.view || !steps.length) continue; // these may not be all
    const distance = (step) => Math.abs(step - told.best_step);
    show(`${metric}.checkpoint`, steps.reduce((one, other) => (distance(other) < distance(one) ? other : one)), whole);
  }
}

function showStatus(job, status) {
  const shown = job.row.querySelector("[data-status] .status");
  if (shown.textContent === status) return;
  const known = ["queued", "running", "completed", "failed", "cancelled"].includes(status);
  shown.textContent = status;
  shown.className = `status status-${known ? status : "other"}`;
}

function take(job, message) {
  showStatus(job, message.status);
  if (message.jump || message.tap !== job.tap || chart.points > MOST_POINTS) return loadSoon();
  const curves = shown();
  const index = curves.indexOf(job);
  const { answer } = job;
  const [x, metric] = [PLACE[tools.x.value], tools.metric.value];
  const rows = [];
  for (const log of message.logs) {
    for (const name of ["loss", "eval_loss", "learning_rate", "samples_per_second"]) {
      const y = log[PLACE[name]];
      if (y === null || log[x] === null) continue;
      const [xs, ys] = answer.series[name] ??= [[], []];
      xs.push(log[x]);
      ys.push(y);
      if (name === metric && index >= 0) rows.push([log[x], ...curves.map((each) => (each === job ? y : null))]);
      const told = answer.statistics[name] ??= { best: Infinity };
      told.last = y;
      if (y < told.best) [told.best, told.best_step] = [y, log[0]];
    }
    if (answer.x_range) answer.x_range[1] = Math.max(answer.x_range[1], log[x]);
  }
  answer.checkpoints.push(...message.checkpoints);
  showNumbers(job);
  chart.append(rows);
}

for (const job of jobs) {
  job.box.hidden = false;
  job.box.addEventListener("change", draw);
}
tools[0].form.addEventListener("input", ({ target }) => {
  if (target.name !== "x") return draw();
  chart.setView(null);
  tools.all.disabled = true;
  load();
});
tools.all.addEventListener("click", () => { chart.setView(null); tools.all.disabled = true; load(); });

await load();
for (const job of jobs) {
  if (!("ended" in job.row.dataset) && job.answer) watch(`job:${job.id}`, job.next, (message) => take(job, message));
}
