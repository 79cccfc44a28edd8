// A line chart on a canvas: zoom, pan and a cursor, by pointer, fingers and keyboard.
// It imports nothing, because the file of a saved run holds it as it is here.
//
//   const chart = new Chart(canvas, { label: "Loss of a job", xName: "step", spoken, onView });
//   chart.setCurves([{ name: "loss", x: [1, 2], y: [3.1, 2.9], color: "--curve-1" }]);
//
// Options (only `label` is needed):
//   label    what the chart shows, for those who do not see it
//   xName    the name of the horizontal axis ("step")
//   xText    a function: the text of an x (a number with separators)
//   spoken   an element with aria-live, which gets the values at the cursor
//   onView   called with the view, [first, last] or null for all, when the reader has changed it
// A curve: { name, x, y, color, dots }. `x` ascends; a `y` that is null or no number leaves a gap;
//   `color` is a CSS colour or the name of a variable; `dots` marks each point.
// Methods:
//   setCurves(curves, extent)  replaces all; `extent` is the x-range of everything there is, if the
//                              curves are a part of it
//   append(rows)               rows [x, y of the first curve, y of the second, ...]; null for no value.
//                              A chart of all moves on; a zoomed one takes what lies in its view
//   setMarks(xs, name)         places on the horizontal axis, such as checkpoints
//   setView(view)              shows [first, last], or all for null. Does not call `onView`
//   zoom(factor)               as the reader does: 0.5 shows half of it, around the cursor
//   view, extent               what is shown (null: all), and what there is
//   setOptions({ log, smoothing, xName, xText })   `smoothing` is 0 to 0.99
//   rows(limit)                the values in the view: [x, y of each curve or null]
//   summary()                  the same in one sentence
//   points                     how many points it holds
// Keys: arrows move the cursor (with Shift: pan), Home and End, + and -, 0 for all, Escape.
// Pointer: drag to zoom, Shift and drag to pan, double click for all; the wheel zooms with Ctrl, or
// once the chart has the focus. Fingers: one pans, two zoom.

const FONT = "12px system-ui, sans-serif";
const FEWEST = 1e-9; // of the extent: the narrowest view

export function numberText(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3).replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 4 });
}

// Round numbers in a range, at intervals of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = power * [1, 2, 5, 10].find((each) => power * each >= rough * 0.999);
  const made = [];
  for (let n = Math.ceil(low / gap); n * gap <= high && made.length < 50; n++) made.push(n * gap);
  return made;
}

function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const every = Math.floor((last - first) / 8) + 1;
  const made = [];
  for (let power = first; power <= last; power += every) {
    for (const each of last - first <= 2 ? [1, 2, 5] : [1]) made.push(each * 10 ** power);
  }
  const shown = made.filter((each) => each >= low && each <= high);
  return shown.length > 1 ? shown : ticks(low, high, 4);
}

// The first index whose x is at least the given one.
function indexOf(xs, x) {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1; else high = middle;
  }
  return low;
}

function nearest(xs, x) {
  const after = indexOf(xs, x);
  return after > 0 && (after === xs.length || x - xs[after - 1] <= xs[after] - x) ? after - 1 : after;
}

// A moving average in which older values count less and less; without a bias at its beginning.
function smooth(ys, weight) {
  let mean = 0, known = 0;
  return ys.map((y) => {
    if (!Number.isFinite(y)) return null;
    mean = weight * mean + (1 - weight) * y;
    known = weight * known + (1 - weight);
    return mean / known;
  });
}

export class Chart {
  #canvas; #pen; #options; #curves = []; #marks = []; #markName = ""; #extent = null; #view = null;
  #cursor = null; #frame = null; #asked = 0; #pointers = new Map(); #band = null; #grip = null;

  constructor(canvas, options) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d");
    this.#options = { xName: "step", xText: numberText, log: false, smoothing: 0, ...options };
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "chart");
    canvas.style.touchAction = "pan-y";
    const on = (name, act) => canvas.addEventListener(name, (event) => act.call(this, event), { passive: false });
    on("keydown", this.#key);
    on("wheel", this.#wheel);
    on("pointerdown", this.#press);
    on("pointermove", this.#move);
    on("pointerup", this.#release);
    on("pointercancel", this.#release);
    on("pointerleave", () => { if (!this.#pointers.size) this.#point(null); });
    on("dblclick", () => this.#zoomTo(null));
    new ResizeObserver(() => this.#redraw()).observe(canvas);
    document.addEventListener("scheme", () => this.#redraw());
  }

  get view() { return this.#view; }
  get extent() { return this.#extent; }
  get points() { return this.#curves.reduce((sum, curve) => sum + curve.x.length, 0); }

  setCurves(curves, extent = null) {
    this.#curves = curves.map((curve) => ({ ...curve, smoothed: null }));
    const ends = this.#curves.flatMap(({ x }) => (x.length ? [x[0], x[x.length - 1]] : []));
    this.#extent = extent ?? (ends.length ? [Math.min(...ends), Math.max(...ends)] : null);
    this.#redraw();
  }

  append(rows) {
    for (const [x, ...values] of rows) {
      this.#extent = this.#extent ? [Math.min(this.#extent[0], x), Math.max(this.#extent[1], x)] : [x, x];
      if (this.#view && (x < this.#view[0] || x > this.#view[1])) continue;
      values.forEach((y, index) => {
        const curve = this.#curves[index];
        if (y === null || y === undefined || !curve) return;
        if (curve.x.length && x <= curve.x[curve.x.length - 1]) return; // the server has sent it already
        curve.x.push(x);
        curve.y.push(y);
        curve.smoothed = null;
      });
    }
    this.#redraw();
  }

  setMarks(xs, name = "") { this.#marks = xs; this.#markName = name; this.#redraw(); }
  setView(view) { this.#view = view; this.#redraw(); }

  setOptions(options) {
    if ("smoothing" in options) for (const curve of this.#curves) curve.smoothed = null;
    Object.assign(this.#options, options);
    this.#redraw();
  }

  rows(limit = 200) {
    const [low, high] = this.#range();
    const all = new Map();
    this.#curves.forEach((curve, index) => {
      for (let i = indexOf(curve.x, low); i < curve.x.length && curve.x[i] <= high; i++) {
        if (!all.has(curve.x[i])) all.set(curve.x[i], this.#curves.map(() => null));
        all.get(curve.x[i])[index] = curve.y[i];
      }
    });
    const sorted = [...all].sort((one, other) => one[0] - other[0]);
    const every = Math.ceil(sorted.length / limit) || 1;
    return sorted.filter((_, i) => i % every === 0 || i === sorted.length - 1).map(([x, ys]) => [x, ...ys]);
  }

  summary() {
    const [low, high] = this.#range();
    const told = this.#curves.flatMap((curve) => {
      const [from, to] = this.#within(curve, low, high);
      let best = -1;
      let last = -1;
      for (let i = from; i < to; i++) {
        if (!Number.isFinite(curve.y[i])) continue;
        last = i;
        if (best < 0 || curve.y[i] < curve.y[best]) best = i;
      }
      if (best < 0) return [];
      const [name, text] = [this.#options.xName, this.#options.xText];
      return [`${curve.name}: lowest ${numberText(curve.y[best])} at ${name} ${text(curve.x[best])}, last ${numberText(curve.y[last])} at ${text(curve.x[last])}`];
    });
    if (!told.length) return `${this.#options.label}: no values yet.`;
    return `${this.#options.label}, ${this.#options.xName} ${this.#options.xText(low)} to ${this.#options.xText(high)}. ${told.join("; ")}.`;
  }

  // What is shown of the horizontal axis.
  #range() {
    const [low, high] = this.#view ?? this.#extent ?? [0, 1];
    return low < high ? [low, high] : [low - 0.5, high + 0.5];
  }

  get #center() {
    const [low, high] = this.#range();
    return this.#cursor ?? (low + high) / 2;
  }

  #within(curve, low, high) {
    const from = indexOf(curve.x, low);
    let to = indexOf(curve.x, high);
    while (to < curve.x.length && curve.x[to] === high) to++;
    return [from, to];
  }

  #redraw() {
    if (!this.#asked) this.#asked = requestAnimationFrame(() => { this.#asked = 0; this.#draw(); });
  }

  #draw() {
    const canvas = this.#canvas, pen = this.#pen, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.setAttribute("aria-label", this.summary());
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    const style = getComputedStyle(canvas);
    const color = (name) => (name.startsWith("--") ? style.getPropertyValue(name).trim() : name);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = FONT;
    pen.lineJoin = "round";

    const [low, high] = this.#range();
    const [floor, ceiling] = this.#heights(low, high);
    const { log } = this.#options;
    const labels = floor === null ? [] : log ? logTicks(floor, ceiling) : ticks(floor, ceiling, height / 45);
    const left = 14 + Math.max(24, ...labels.map((each) => pen.measureText(numberText(each)).width));
    const frame = { left, right: width - 12, top: 10, bottom: height - 38, low, high };
    this.#frame = frame;
    const scale = log ? Math.log10 : (y) => y;
    const toX = (x) => left + ((x - low) / (high - low)) * (frame.right - left);
    const toY = (y) => frame.bottom - ((scale(y) - scale(floor)) / (scale(ceiling) - scale(floor))) * (frame.bottom - frame.top);

    pen.fillStyle = color("--soft");
    pen.strokeStyle = color("--line");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const each of labels) {
      const y = Math.round(toY(each)) + 0.5;
      line(pen, left, y, frame.right, y);
      pen.fillText(numberText(each), left - 6, y);
    }
    line(pen, left, frame.bottom + 0.5, frame.right, frame.bottom + 0.5);
    pen.textBaseline = "top";
    pen.textAlign = "center";
    const texts = ticks(low, high, (frame.right - left) / 90).map((x) => [x, this.#options.xText(x)]);
    for (const [x, text] of texts) {
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(toX(x), width - half - 1), frame.bottom + 6);
    }
    pen.fillText(this.#options.xName + (log ? " (log scale)" : ""), (left + frame.right) / 2, height - 15);
    if (floor === null) {
      pen.fillText("No values yet", (left + frame.right) / 2, (frame.top + frame.bottom) / 2);
      return;
    }

    pen.save();
    pen.beginPath();
    pen.rect(left, frame.top - 6, frame.right - left, frame.bottom - frame.top + 7);
    pen.clip();
    this.#drawMarks(pen, color, toX, frame);
    for (const curve of this.#curves) this.#drawCurve(pen, curve, color(curve.color), toX, toY, log);
    if (this.#band) {
      pen.globalAlpha = 0.15;
      pen.fillStyle = color("--accent");
      pen.fillRect(Math.min(...this.#band), frame.top, Math.abs(this.#band[1] - this.#band[0]), frame.bottom - frame.top);
    }
    pen.restore();
    if (this.#cursor !== null) this.#drawCursor(pen, color, toX, toY, width);
  }

  // The range of the vertical axis; nulls if there is nothing in the view.
  #heights(low, high) {
    let least = Infinity, most = -Infinity;
    for (const curve of this.#curves) {
      let [from, to] = this.#within(curve, low, high);
      if (to - from < 2) [from, to] = [Math.max(0, from - 1), Math.min(curve.x.length, to + 1)];
      for (let i = from; i < to; i++) {
        const y = curve.y[i];
        if (!Number.isFinite(y) || (this.#options.log && y <= 0)) continue;
        if (y < least) least = y;
        if (y > most) most = y;
      }
    }
    if (least > most) return [null, null];
    if (this.#options.log) return least < most ? [least / 1.08, most * 1.08] : [least / 2, most * 2];
    const room = (most - least) * 0.06 || Math.abs(most) * 0.1 || 1;
    return [least - room, most + room];
  }

  #drawMarks(pen, color, toX, { top, bottom, left, right }) {
    const shown = this.#marks.map(toX).filter((x) => x >= left - 6 && x <= right + 6);
    pen.strokeStyle = pen.fillStyle = color("--curve-4");
    pen.setLineDash([2, 4]);
    pen.globalAlpha = 0.6;
    if (shown.length <= 30) for (const x of shown) line(pen, x, top, x, bottom);
    pen.setLineDash([]);
    pen.globalAlpha = 1;
    for (const x of shown) {
      pen.beginPath();
      pen.moveTo(x, bottom - 8);
      pen.lineTo(x + 5, bottom);
      pen.lineTo(x - 5, bottom);
      pen.fill();
    }
  }

  #drawCurve(pen, curve, color, toX, toY, log) {
    const { smoothing } = this.#options;
    pen.strokeStyle = pen.fillStyle = color;
    pen.lineWidth = 1.5;
    pen.globalAlpha = smoothing ? 0.3 : 1;
    this.#trace(pen, curve, curve.y, toX, toY, log);
    pen.globalAlpha = 1;
    if (!smoothing) return;
    curve.smoothed ??= smooth(curve.y, smoothing);
    pen.lineWidth = 2;
    this.#trace(pen, { ...curve, dots: false }, curve.smoothed, toX, toY, log);
  }

  // Draws the points of the view. Of many in one column of pixels, the lowest and the highest.
  #trace(pen, curve, ys, toX, toY, log) {
    const { low, high, left, right } = this.#frame;
    let [from, to] = this.#within(curve, low, high);
    const many = to - from > 4 * (right - left), few = to - from <= 60;
    [from, to] = [Math.max(0, from - 1), Math.min(curve.x.length, to + 1)];
    let drawing = false, column = NaN, least = 0, most = 0;
    const drawn = (i) => Number.isFinite(ys[i]) && !(log && ys[i] <= 0);
    const go = (i) => {
      if (drawing) pen.lineTo(toX(curve.x[i]), toY(ys[i])); else pen.moveTo(toX(curve.x[i]), toY(ys[i]));
      drawing = true;
    };
    const flush = () => {
      if (Number.isNaN(column)) return;
      go(Math.min(least, most));
      if (least !== most) go(Math.max(least, most));
      column = NaN;
    };
    pen.beginPath();
    for (let i = from; i < to; i++) {
      if (!drawn(i)) { flush(); drawing = false; continue; }
      if (!many) { go(i); continue; }
      const here = Math.floor(toX(curve.x[i]));
      if (here !== column) { flush(); column = here; least = most = i; }
      if (ys[i] < ys[least]) least = i;
      if (ys[i] > ys[most]) most = i;
    }
    flush();
    pen.stroke();
    if (many) return;
    for (let i = from; i < to; i++) {
      if (!drawn(i) || !((curve.dots && few) || (!drawn(i - 1) && !drawn(i + 1)))) continue;
      pen.beginPath();
      pen.arc(toX(curve.x[i]), toY(ys[i]), 3, 0, 7);
      pen.fill();
    }
  }

  // The values at the cursor: the point of each curve that is nearest to it.
  #values() {
    const [low, high] = this.#range();
    return this.#curves.flatMap((curve) => {
      const i = nearest(curve.x, this.#cursor);
      if (i >= curve.x.length || curve.x[i] < low || curve.x[i] > high) return [];
      return [{ curve, x: curve.x[i], y: curve.y[i], smoothed: curve.smoothed?.[i] }];
    });
  }

  #texts(values) {
    const { xName, xText, smoothing } = this.#options;
    const marked = this.#markName && this.#marks.includes(this.#cursor) ? `, ${this.#markName}` : "";
    return [`${xName} ${xText(this.#cursor)}${marked}`, ...values.map(({ curve, x, y, smoothed }) =>
      `${curve.name} ${numberText(y)}${smoothing ? ` (smoothed ${numberText(smoothed)})` : ""}${x === this.#cursor ? "" : ` at ${xText(x)}`}`)];
  }

  #drawCursor(pen, color, toX, toY, width) {
    const { left, right, top, bottom } = this.#frame;
    const x = toX(this.#cursor), values = this.#values(), texts = this.#texts(values);
    pen.strokeStyle = color("--soft");
    pen.lineWidth = 1;
    line(pen, x, top, x, bottom);
    for (const each of values) {
      const y = toY(each.y);
      if (!Number.isFinite(y)) continue;
      pen.fillStyle = color(each.curve.color);
      pen.beginPath();
      pen.arc(toX(each.x), y, 4, 0, 7);
      pen.fill();
    }
    const wide = Math.min(right - left, Math.max(...texts.map((each) => pen.measureText(each).width)) + 28);
    const tall = texts.length * 18 + 10;
    const at = x + 12 + wide < width ? x + 12 : Math.max(2, x - 12 - wide);
    pen.fillStyle = color("--paper");
    pen.strokeStyle = color("--line");
    pen.fillRect(at, top, wide, tall);
    pen.strokeRect(at + 0.5, top + 0.5, wide, tall);
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    texts.forEach((text, index) => {
      const y = top + 14 + index * 18;
      pen.fillStyle = color("--ink");
      pen.fillText(text, at + (index ? 20 : 8), y, wide - 24);
      if (!index) return;
      pen.fillStyle = color(values[index - 1].curve.color);
      pen.fillRect(at + 8, y - 4, 8, 8);
    });
  }

  #point(x, speak = false) {
    this.#cursor = x;
    if (speak && this.#options.spoken) {
      this.#options.spoken.textContent = x === null ? "" : this.#texts(this.#values()).join(", ");
    }
    this.#redraw();
  }

  // Puts the cursor at the point of any curve that is nearest to an x.
  #snap(x, speak = false) {
    const near = this.#curves.filter((curve) => curve.x.length).map((curve) => curve.x[nearest(curve.x, x)]);
    if (!near.length) return;
    this.#point(near.reduce((one, other) => (Math.abs(other - x) < Math.abs(one - x) ? other : one)), speak);
  }

  #toValue(pixel) {
    const { left, right, low, high } = this.#frame;
    return low + ((pixel - left) / (right - left)) * (high - low);
  }

  #zoomTo(view, speak = false) {
    if (!this.#extent) return;
    const [first, last] = this.#extent;
    if (view) {
      const span = Math.max(view[1] - view[0], (last - first) * FEWEST || 1e-9);
      const start = Math.min(Math.max(view[0], first), last - span);
      view = span >= last - first ? null : [start, start + span];
    }
    this.#view = view;
    if (this.#cursor !== null) {
      const [low, high] = this.#range();
      if (this.#cursor < low || this.#cursor > high) this.#cursor = null;
    }
    if (speak && this.#options.spoken) this.#options.spoken.textContent = this.summary();
    this.#options.onView?.(view);
    this.#redraw();
  }

  zoom(factor, x = this.#center, speak = false) {
    const [low, high] = this.#range();
    this.#zoomTo([x - (x - low) * factor, x + (high - x) * factor], speak);
  }

  #pan(share) {
    const [low, high] = this.#range();
    if (this.#view) this.#zoomTo([low + (high - low) * share, high + (high - low) * share], true);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#frame) return;
    const [low, high] = this.#range();
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn && event.shiftKey) this.#pan(turn * 0.25);
    else if (turn) this.#turn(turn);
    else if (event.key === "Home") this.#snap(low, true);
    else if (event.key === "End") this.#snap(high, true);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5, this.#center, true);
    else if (event.key === "-") this.zoom(2, this.#center, true);
    else if (event.key === "0") this.#zoomTo(null, true);
    else if (event.key === "Escape") this.#point(null, true);
    else return;
    event.preventDefault();
  }

  // Moves the cursor to the next point of any curve; at an edge of the view the view moves on.
  #turn(turn) {
    const [low, high] = this.#range();
    const from = this.#cursor ?? (turn > 0 ? -Infinity : Infinity);
    const next = this.#curves.flatMap(({ x }) => {
      let i = indexOf(x, from);
      if (turn < 0) i -= 1; else while (i < x.length && x[i] <= from) i++;
      return i >= 0 && i < x.length ? [x[i]] : [];
    });
    if (this.#cursor === null) return this.#snap(turn > 0 ? low : high, true);
    if (!next.length) return this.#pan(turn * 0.25);
    const x = turn > 0 ? Math.min(...next) : Math.max(...next);
    if (x < low || x > high) this.#pan(turn * 0.25);
    this.#point(x, true);
  }

  #wheel(event) {
    const focused = document.activeElement === this.#canvas;
    if (!this.#frame || !(event.ctrlKey || event.metaKey || focused)) return;
    if (event.deltaY > 0 && !this.#view && !event.ctrlKey) return; // all is shown: the page scrolls
    event.preventDefault();
    const turned = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    this.zoom(Math.exp(Math.max(-1, Math.min(1, turned / 300))), this.#toValue(event.offsetX));
  }

  #press(event) {
    if (event.button > 1 || !this.#frame) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event.offsetX);
    const pans = event.shiftKey || event.button === 1 || event.pointerType === "touch";
    this.#band = pans ? null : [event.offsetX, event.offsetX];
    this.#grip = pans ? [...this.#pointers.values()].map((pixel) => this.#toValue(pixel)) : null;
    if (event.pointerType === "touch") this.#snap(this.#toValue(event.offsetX), true);
  }

  #move(event) {
    if (!this.#frame) return;
    if (!this.#pointers.has(event.pointerId)) return this.#snap(this.#toValue(event.offsetX));
    this.#pointers.set(event.pointerId, event.offsetX);
    if (this.#band) {
      this.#band[1] = event.offsetX;
      return this.#snap(this.#toValue(event.offsetX));
    }
    // The x that was under each finger stays under it.
    const { left, right, low, high } = this.#frame;
    const [a, b] = [...this.#pointers.values()], [x, z] = this.#grip;
    const perPixel = b === undefined || z === undefined || Math.abs(b - a) < 10
      ? (high - low) / (right - left) : Math.abs((z - x) / (b - a));
    const start = x - (a - left) * perPixel;
    if (b === undefined && !this.#view) return this.#snap(this.#toValue(a));
    this.#zoomTo([start, start + (right - left) * perPixel]);
  }

  #release(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const band = this.#band;
    this.#band = null;
    this.#grip = [...this.#pointers.values()].map((pixel) => this.#toValue(pixel));
    if (band && event.type === "pointerup" && Math.abs(band[1] - band[0]) > 5) {
      this.#zoomTo(band.map((pixel) => this.#toValue(pixel)).sort((one, other) => one - other));
    } else this.#redraw();
  }
}

function line(pen, x, y, toX, toY) {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(toX, toY);
  pen.stroke();
}
