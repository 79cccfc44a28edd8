// Before the first paint: the colour scheme that the reader has chosen, if any.
const chosen = localStorage.getItem("arkor-studio-scheme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.scheme = chosen;
