// The events of a job as a list of any length: only what is seen of it is asked for and drawn.
import { ask, element, notice } from "./page.js";

const HEIGHT = 24; // pixels of a row, as in the style sheet
const TALLEST = 8e6; // pixels that every browser can scroll
const MOST_COPIED = 10000;
const at = (id) => document.getElementById(id);

export class EventList {
  #path; #box = at("rows"); #matching = 0; #drawn = ""; #asked = 0; #waiting = 0; #atEnd = true;

  constructor(path) {
    this.#path = path;
    this.#box.addEventListener("scroll", () => {
      this.#atEnd = this.#box.scrollTop + this.#box.clientHeight >= this.#box.scrollHeight - HEIGHT;
      this.refresh(30);
    });
    at("filter").addEventListener("input", () => { this.#atEnd = true; this.refresh(200); });
    at("pause").addEventListener("click", () => {
      const paused = at("pause").getAttribute("aria-pressed") !== "true";
      at("pause").setAttribute("aria-pressed", paused);
      at("pause").textContent = paused ? "Go on" : "Pause";
      if (!paused) { this.#atEnd = true; this.refresh(); }
    });
    at("copy").addEventListener("click", () => this.#copy().catch((error) => notice(error.message, true)));
    this.#show().catch((error) => notice(error.message, true));
  }

  // Asks for the rows soon: there are new ones, or others are seen.
  refresh(delay = 300) {
    if (this.#waiting) return;
    this.#waiting = setTimeout(() => {
      this.#waiting = 0;
      this.#show().catch((error) => notice(error.message, true));
    }, delay);
  }

  #rows(from, count) {
    const query = new URLSearchParams({ from, count, filter: at("filter").value });
    return ask(`${this.#path}/rows?${query}`);
  }

  // How many pixels one row takes of the scrolled length: fewer than its height if there are many.
  get #pitch() { return Math.min(HEIGHT, TALLEST / Math.max(1, this.#matching)); }

  async #show() {
    const turn = ++this.#asked, paused = at("pause").getAttribute("aria-pressed") === "true";
    const count = Math.min(500, Math.ceil(this.#box.clientHeight / HEIGHT) + 20);
    const seen = Math.floor(this.#box.scrollTop / this.#pitch);
    let first = this.#atEnd && !paused ? Math.max(0, this.#matching - count) : Math.max(0, seen - 10);
    let answer = await this.#rows(first, count);
    const end = answer.matching - count;
    if (this.#atEnd && !paused && answer.matching !== this.#matching && first !== Math.max(0, end)) {
      first = Math.max(0, end);
      answer = await this.#rows(first, count);
    }
    if (turn !== this.#asked) return;
    if (!paused) this.#matching = answer.matching;
    at("matching").textContent = answer.matching === answer.total ? `${answer.total.toLocaleString("en")} events` : `${answer.matching.toLocaleString("en")} of ${answer.total.toLocaleString("en")} events`;
    const pitch = this.#pitch;
    at("space").style.height = `${this.#matching * pitch}px`;
    if (this.#atEnd && !paused) this.#box.scrollTop = this.#box.scrollHeight;
    const top = this.#box.scrollTop - (this.#box.scrollTop / pitch - first) * HEIGHT;
    for (const old of this.#box.querySelectorAll("[role=listitem]")) old.remove();
    this.#box.append(...answer.rows.map((row, index) => {
      const made = element("div", { role: "listitem", "aria-setsize": answer.matching, "aria-posinset": first + index + 1, title: row.text }, line(row));
      made.style.top = `${top + index * HEIGHT}px`;
      return made;
    }));
  }

  async #copy() {
    if (!navigator.clipboard) throw new Error("The browser lets a page copy only where it came by HTTPS.");
    const lines = [];
    while (lines.length < MOST_COPIED) {
      const { rows } = await this.#rows(lines.length, 500);
      lines.push(...rows.map(line));
      if (rows.length < 500) break;
    }
    await navigator.clipboard.writeText(lines.join("\n"));
    notice(`${lines.length.toLocaleString("en")} events are in the clipboard.`);
  }
}

function line({ time, type, step, text }) {
  return [time ?? "", type, step === null || step === undefined ? "" : `step ${step}`, text].filter(Boolean).join("  ");
}
