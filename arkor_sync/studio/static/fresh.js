// Puts a part of a page, as the server makes it, in the place of the one that is shown.

import { showTimes } from "./page.js";

// Resolves to the new part; throws an Error with the server's text. No script of an answer runs.
export async function exchange(id, url, { form, signal } = {}) {
  const answer = await fetch(url, form
    ? { method: "POST", body: new URLSearchParams(new FormData(form)), signal }
    : { signal });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = page.getElementById(id);
  if (!part) throw new Error(page.querySelector(".problem")?.textContent ?? `the server answered ${answer.status}`);
  const shown = document.importNode(part, true);
  document.getElementById(id).replaceWith(shown);
  showTimes(shown);
  return shown;
}
