// Why: the timeline is brought up to date when something has happened.

import { notice } from "./page.js";
import { exchange } from "./fresh.js";
import { watch } from "./live.js";

const PAUSE = 1000; // milliseconds between two looks
const story = document.getElementById("story");
let isLooking = false;
let isStale = false;

function tidy(shown) {
  for (const each of shown.querySelectorAll(".without-script")) each.remove();
  for (const each of shown.querySelectorAll("time[datetime]")) {
    const when = new Date(each.dateTime);
    each.textContent = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

async function look() {
  isStale = true;
  if (isLooking) return;
  isLooking = true;
  while (isStale) {
    isStale = false;
    try {
      tidy(await exchange("story", location.href));
    } catch { /* the connection is shown at the foot, and the next message comes when it is back */ }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  isLooking = false;
}

tidy(story);
watch(`job:${story.dataset.job}`, Number(story.dataset.read), look);

const cut = document.getElementById("cut");
cut?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await exchange("story", cut.action, { form: cut });
    look();
  } catch (error) {
    notice(error.message, true);
  }
});
