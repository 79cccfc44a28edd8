// What a saved run does with its chart. The file has it behind chart.js, in one script.
const saved = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const chart = new Chart(find("loss"), {
  label: "Loss", spoken: find("spoken"),
  onView: () => { find("all").disabled = !chart.view; },
});
chart.setCurves(saved.curves);
chart.setMarks(saved.checkpoints, "checkpoint");
find("log").addEventListener("change", () => chart.setOptions({ log: find("log").checked }));
find("smoothing").addEventListener("input", () => chart.setOptions({ smoothing: Number(find("smoothing").value) }));
find("in").addEventListener("click", () => chart.zoom(0.5));
find("out").addEventListener("click", () => chart.zoom(2));
find("all").addEventListener("click", () => { chart.setView(null); find("all").disabled = true; });
