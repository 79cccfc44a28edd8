// The list of jobs: it is loaded again in its place when the reader filters, sorts or turns a page,
// and when a job has changed. The jobs that are chosen for a comparison stay chosen meanwhile.

import { ask, confirmed, notice, root, showTimes } from "./page.js";
import { watch } from "./live.js";

const MOST = 8; // jobs of one comparison
const KEY = "arkor-studio-chosen";

const filter = document.getElementById("filter");
const area = document.getElementById("jobs");
const shown = document.getElementById("shown");
const chosen = new Set(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
let asked = 0; // the number of the last question
let typing = null;

// The URL of the form, without what is as usual.
function formUrl() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(filter)) {
    if (value && !(name === "sort" && value === "-created")) query.append(name, value);
  }
  const url = new URL(filter.action);
  url.search = query;
  return url;
}

function fillForm(url) {
  const query = new URL(url).searchParams;
  if (document.activeElement !== filter.elements.search) filter.elements.search.value = query.get("search") ?? "";
  filter.elements.sort.value = query.get("sort") ?? "-created";
  for (const box of filter.querySelectorAll("[name=status]")) box.checked = query.getAll("status").includes(box.value);
}

// Loads the list of the page's URL and puts it in the place of this one. The newest answer is shown.
async function load() {
  const mine = ++asked;
  area.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    if (mine !== asked) return;
    const made = new DOMParser().parseFromString(text, "text/html");
    const fresh = made.getElementById("jobs");
    if (!fresh) return void location.reload(); // it says why
    place(fresh, made);
  } catch (error) {
    if (mine === asked) notice(`The list could not be loaded: ${error.message}`, true);
  } finally {
    if (mine === asked) area.removeAttribute("aria-busy");
  }
}

function place(fresh, made) {
  const focus = document.activeElement;
  const job = area.contains(focus) ? focus.closest("[data-job]")?.dataset.job : undefined;
  const [id, kind] = area.contains(focus) ? [focus.id, focus.closest("td")?.className] : [];
  area.replaceChildren(...document.adoptNode(fresh).childNodes);
  showTimes(area);
  showChosen();
  for (const count of made.querySelectorAll("[data-count]")) {
    const here = filter.querySelector(`[data-count="${CSS.escape(count.dataset.count)}"]`);
    if (here) here.textContent = count.textContent;
  }
  const text = made.getElementById("shown").textContent;
  if (shown.textContent !== text) shown.textContent = text; // else it is read out again
  if (job !== undefined) {
    area.querySelector(`[data-job="${CSS.escape(job)}"] .${CSS.escape(kind)} :is(a, input)`)?.focus();
  } else if (id) (document.getElementById(id) ?? area.querySelector(".jobs-pages a"))?.focus();
}

function turnTo(url) {
  history.pushState(null, "", url);
  fillForm(url);
  load();
}

function showChosen() {
  for (const box of area.querySelectorAll("[name=job]")) box.checked = chosen.has(box.value);
  const compare = document.getElementById("compare-chosen");
  if (!compare) return;
  compare.textContent = chosen.size ? `Compare the ${chosen.size} chosen` : "Compare the chosen jobs";
  compare.disabled = chosen.size < 2;
  document.getElementById("forget-chosen").hidden = !chosen.size;
  sessionStorage.setItem(KEY, JSON.stringify([...chosen]));
}

async function cancel(link) {
  const row = link.closest("[data-job]");
  const name = row.querySelector(".jobs-name a").textContent;
  if (!await confirmed(`Cancel ${name}? What it has learnt since its last checkpoint is lost.`, "Cancel the job")) return;
  try {
    await ask(`jobs/${encodeURIComponent(row.dataset.job)}/cancel`, { method: "POST" });
    notice(`The cloud was asked to cancel ${name}.`);
  } catch (error) {
    notice(`${name} was not cancelled: ${error.message}`, true);
  }
  load();
}

filter.addEventListener("input", (event) => {
  clearTimeout(typing);
  // A search is one entry of the browser's history, however it was typed.
  const typed = event.target.name === "search";
  const show = () => {
    if (!typed) return turnTo(formUrl());
    history.replaceState(null, "", formUrl());
    load();
  };
  typing = setTimeout(show, typed ? 200 : 0);
});
filter.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  turnTo(formUrl());
});
addEventListener("popstate", () => { fillForm(location.href); load(); });

area.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (event.target.id === "forget-chosen") { chosen.clear(); showChosen(); }
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if ("cancel" in link.dataset) { event.preventDefault(); cancel(link); }
  if ("here" in link.dataset) { event.preventDefault(); turnTo(link.href); }
});
area.addEventListener("change", (event) => {
  const box = event.target;
  if (box.name !== "job") return;
  if (!box.checked) chosen.delete(box.value);
  else if (chosen.size < MOST) chosen.add(box.value);
  else notice(`At most ${MOST} jobs can be compared.`);
  showChosen();
});
area.addEventListener("submit", (event) => {
  event.preventDefault();
  const url = new URL("compare", new URL(root, location));
  for (const job of chosen) url.searchParams.append("job", job);
  location.assign(url);
});

showChosen();
addEventListener("pageshow", (event) => { if (event.persisted) showChosen(); });
watch("jobs", Number(area.dataset.version), ({ changed }) => { if (changed.length) load(); });
