// What every page has: the switch of the scheme, times, durations, forms, notices, the live stream.

const page = document.documentElement;
export const root = page.dataset.root; // ends with a slash

// Makes an element. Texts become text nodes, and never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return made;
}

// Asks the server; throws an Error with the server's text. A changing request carries the token.
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Arkor-Form"] = page.dataset.formToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(new URL(path, new URL(root, location)), {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let value = null;
  try { value = text ? JSON.parse(text) : null; } catch { /* a page of a proxy */ }
  if (!answer.ok) throw new Error(value?.error ?? `the server answered ${answer.status}`);
  return value;
}

// Shows a short text at the edge of the page, until it is closed or has been there long enough.
export function notice(text, isProblem = false) {
  const close = element("button", { type: "button", class: "quiet", "aria-label": "Close" }, "×");
  const shown = element("p", { class: isProblem ? "notice problem" : "notice" }, text, close);
  close.addEventListener("click", () => shown.remove());
  document.getElementById("notices").append(shown);
  if (!isProblem) setTimeout(() => shown.remove(), 6000);
}

// Asks a question in a dialog; resolves to whether it was confirmed.
export function confirmed(question, yes, no = "Back") {
  return new Promise((resolve) => {
    const dialog = element("dialog", {},
      element("form", { method: "dialog" },
        element("p", {}, question),
        element("div", { class: "buttons" },
          element("button", { value: "" , autofocus: true }, no),
          element("button", { value: "yes", class: "danger" }, yes))));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function durationText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0]) return `${parts[0]} h ${parts[1]} min`;
  return parts[1] ? `${parts[1]} min ${parts[2]} s` : `${parts[2]} s`;
}

export function showTimes(within = document) {
  for (const each of within.querySelectorAll("time[datetime]:not([data-shown])")) {
    const when = new Date(each.dateTime);
    if (Number.isNaN(when.getTime())) continue;
    each.title = each.dateTime;
    each.textContent = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    each.dataset.shown = "";
  }
}

function tick() {
  if (document.hidden) return;
  for (const each of document.querySelectorAll("[data-since]:not([data-until])")) {
    const began = Date.parse(each.dataset.since);
    if (!Number.isNaN(began)) each.textContent = durationText((Date.now() - began) / 1000);
  }
}

const scheme = document.getElementById("scheme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (page.dataset.scheme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
function nameScheme() { scheme.textContent = isDark() ? "Light" : "Dark"; }
scheme.hidden = false;
scheme.addEventListener("click", () => {
  page.dataset.scheme = isDark() ? "light" : "dark";
  localStorage.setItem("arkor-studio-scheme", page.dataset.scheme);
  nameScheme();
  document.dispatchEvent(new Event("scheme")); // charts are drawn again
});
prefersDark.addEventListener("change", () => { nameScheme(); document.dispatchEvent(new Event("scheme")); });
nameScheme();
showTimes();
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
