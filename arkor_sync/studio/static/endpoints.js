// Endpoints: checkpoints of the chosen job, the wait for a new one, keys that are shown once.

import { ask, element, notice } from "./page.js";
import { exchange } from "./fresh.js";

const WAITS = [0.5, 1, 1, 2, 2, 4, 4, 8]; // seconds between the looks for a new endpoint

for (const each of document.querySelectorAll(".without-script")) each.remove();

const target = document.getElementById("target");
target.addEventListener("change", async () => {
  const chosen = target.value;
  const field = document.getElementById("step-field");
  const step = document.getElementById("step");
  const isJob = chosen.startsWith("job:");
  field.hidden = !isJob;
  step.length = 1;
  field.querySelector("[name=steps_of]").value = chosen;
  if (!isJob) return;
  step.options[0].disabled = target.selectedOptions[0].dataset.status !== "completed";
  try {
    const { steps } = await ask(`jobs/${encodeURIComponent(chosen.slice(4))}/steps`);
    if (target.value !== chosen) return; // another one was chosen meanwhile
    step.append(...steps.map((each) => element("option", { value: each }, `the checkpoint at step ${each}`)));
    if (step.options[0].disabled && steps.length) step.selectedIndex = step.length - 1;
  } catch (error) {
    notice(`The checkpoints of this job could not be read: ${error.message}`, true);
  }
});

async function awaitNewEndpoint() {
  for (const seconds of WAITS) {
    if (!document.querySelector("[data-awaited]")) return;
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    try {
      await exchange("list", location.href);
    } catch (error) {
      notice(`The endpoints could not be listed: ${error.message}`, true);
      return;
    }
  }
}
awaitNewEndpoint();

async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    notice("The browser does not allow to copy: select the text and copy it yourself.", true);
    return false;
  }
  button.textContent = "Copied";
  return true;
}

for (const each of document.querySelectorAll(".example")) {
  const text = each.querySelector("pre").textContent;
  const button = element("button", { type: "button", onclick: () => copied(text, button) }, "Copy");
  each.append(button);
}

// A key that was not stored yet: who leaves the page is asked first.
const guard = (event) => event.preventDefault();
const isStored = () => removeEventListener("beforeunload", guard);

function showKey(keys) {
  const key = keys.querySelector("#key");
  if (!key) return false;
  addEventListener("beforeunload", guard);
  const copy = keys.querySelector("#copy-key");
  copy.hidden = false;
  copy.addEventListener("click", async () => { if (await copied(key.textContent, copy)) isStored(); });
  key.addEventListener("copy", isStored);
  const stored = keys.querySelector("#key-stored");
  stored.addEventListener("click", async (event) => {
    event.preventDefault();
    isStored();
    try {
      issueInPlace(await exchange("keys", stored.href)).focus();
    } catch {
      location.replace(stored.href);
    }
  });
  copy.focus();
  return true;
}

function issueInPlace(keys) {
  const form = keys.querySelector("#issue");
  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true; // a second key would hide the first
    addEventListener("beforeunload", guard);
    try {
      const shown = await exchange("keys", form.action, { form });
      if (!showKey(shown)) isStored();
      issueInPlace(shown).querySelector("#label")?.focus();
    } catch (error) {
      isStored();
      notice(`${error.message}. Load this page again to see whether there is a key that nobody has.`, true);
      button.disabled = false;
    }
  });
  return keys;
}

const keys = document.getElementById("keys");
if (keys) {
  showKey(keys);
  issueInPlace(keys);
}
// No page that the browser keeps for its back button may hold the key.
addEventListener("pagehide", () => document.getElementById("key")?.remove());
