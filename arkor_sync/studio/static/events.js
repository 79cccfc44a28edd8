// The events of a job as a list of any length: only what is seen of it is asked for and drawn.
import { ask, element, notice } from "./page.js";

const HEIGHT = 24; // pixels of a row, as in the style sheet
const TALLEST = 8e6; // pixels that every browser can scroll
const MOST_COPIED = 10000;
const at = (id) => document.getElementById(id);

// Shows what went wrong; once, however often it does while nobody looks.
export function failed({ message }) {
  if (!at("notices").textContent.includes(message)) notice(message, true);
}

export class EventList {
  #path; #box = at("rows"); #matching = 0; #total = 0; #paused = null; #asked = 0; #waiting = 0; #atEnd = true;

  constructor(path) {
    this.#path = path;
    this.#box.addEventListener("scroll", () => {
      this.#atEnd = this.#box.scrollTop + this.#box.clientHeight >= this.#box.scrollHeight - HEIGHT;
      this.refresh(30);
    });
    at("filter").addEventListener("input", () => { this.#atEnd = true; this.refresh(200); });
    at("pause").addEventListener("click", () => {
      this.#paused = this.#paused === null ? this.#total : null; // the events that are shown at most
      at("pause").textContent = this.#paused === null ? "Pause" : "Go on";
      this.#atEnd = this.#paused === null;
      this.refresh();
    });
    at("copy").addEventListener("click", () => this.#copy().catch(failed));
    this.#show().catch(failed);
  }

  // Asks for the rows soon: there are new ones, or others are seen.
  refresh(delay = 300) {
    if (this.#waiting) return;
    this.#waiting = setTimeout(() => {
      this.#waiting = 0;
      this.#show().catch(failed);
    }, delay);
  }

  #rows(from, count) {
    const query = new URLSearchParams({ from, count, filter: at("filter").value });
    return ask(`${this.#path}/rows?${query}`);
  }

  // How many pixels one row takes of the scrolled length: fewer than its height if there are many.
  get #pitch() { return Math.min(HEIGHT, TALLEST / Math.max(1, this.#matching)); }

  async #show() {
    const turn = ++this.#asked;
    const count = Math.min(500, Math.ceil(this.#box.clientHeight / HEIGHT) + 20);
    const atEnd = this.#atEnd && this.#paused === null;
    let first = atEnd ? this.#matching - count : Math.floor(this.#box.scrollTop / this.#pitch) - 10;
    let answer = await this.#rows(first = Math.max(0, first), count);
    if (atEnd && answer.matching > first + count) {
      answer = await this.#rows(first = answer.matching - count, count);
    }
    if (turn !== this.#asked) return;
    const rows = answer.rows.filter((row) => this.#paused === null || row.index < this.#paused);
    // Paused, the list ends where it ended, unless fewer events pass the filter.
    this.#matching = this.#paused === null ? answer.matching : Math.min(answer.matching, this.#paused);
    this.#total = answer.total;
    const all = answer.total.toLocaleString("en");
    at("matching").textContent = answer.matching === answer.total ? `${all} events` : `${answer.matching.toLocaleString("en")} of ${all} events`;
    const pitch = this.#pitch;
    at("space").style.height = `${this.#matching * pitch}px`;
    if (atEnd) this.#box.scrollTop = this.#box.scrollHeight;
    const top = this.#box.scrollTop - (this.#box.scrollTop / pitch - first) * HEIGHT;
    for (const old of this.#box.querySelectorAll("[role=listitem]")) old.remove();
    this.#box.append(...rows.map((row, index) => {
      const made = element("div", { role: "listitem", "aria-setsize": answer.matching, "aria-posinset": first + index + 1, title: line(row) }, line(row, clock));
      made.style.top = `${top + index * HEIGHT}px`;
      return made;
    }));
  }

  async #copy() {
    if (!navigator.clipboard) throw new Error("The browser lets a page copy only where it came by HTTPS.");
    const lines = [];
    while (lines.length < MOST_COPIED) {
      const { rows } = await this.#rows(lines.length, 500);
      lines.push(...rows.map((row) => line(row)));
      if (rows.length < 500) break;
    }
    await navigator.clipboard.writeText(lines.join("\n"));
    notice(`${lines.length.toLocaleString("en")} events are in the clipboard.`);
  }
}

function clock(time) {
  const when = new Date(time);
  return Number.isNaN(when.getTime()) ? time : when.toLocaleTimeString("en-GB");
}

function line({ time, type, step, text }, shown = (each) => each) {
  return [time && shown(time), type, step === null ? "" : `step ${step}`, text].filter(Boolean).join("  ");
}
