// A line chart on a canvas: zoom, pan and a cursor, by pointer, fingers and keyboard.
// It imports nothing: the file of a saved run holds it as it is.
//
//   const chart = new Chart(canvas, { label: "Loss", spoken, onView });
//   chart.setCurves([{ name: "loss", x: [1, 2], y: [3.1, 2.9], color: "--curve-1" }]);
//
// Options: label, what it shows, in words; xName ("step") and xText(x), a text; spoken, an element
//   with aria-live for the values at the cursor; onView(view), called when the reader has zoomed or
//   panned; log; smoothing, 0 to 0.99.
// Curves: x ascends, a y of null is a gap; color is one of CSS or a variable; dots marks each point,
//   and such a curve is not smoothed.
// Views: [first, last] of the horizontal axis, or null for all.
//   setCurves(curves, extent)  replaces all; `extent` is the range of x if they are a part of it
//   append(rows)               [x, y of each curve or null]; a zoomed chart takes what is in view
//   setMarks(xs, name)         places on the horizontal axis, such as checkpoints
//   setOptions(options)        changes some
//   setView(view), zoom(0.5)   the latter as the reader does, around the cursor
//   view, extent, points       what is shown; what there is; how many points it holds
//   rows(limit), summary()     what is shown as [x, y of each curve or null], and as a sentence
// Fingers: one pans, two zoom. Keys: see #key. The wheel zooms with Ctrl, or with the focus.

export function numberText(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return value.toExponential(3).replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 4 });
}

// Round numbers in a range, at intervals of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = power * [1, 2, 5, 10].find((each) => power * each >= rough * 0.999);
  const made = [];
  for (let n = Math.ceil(low / gap); n * gap <= high && made.length < 50; n++) made.push(n * gap);
  return made;
}

function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const made = [];
  for (let power = first; power <= last; power += Math.floor((last - first) / 8) + 1) {
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

// A moving average in which older values count less and less, also right at its beginning.
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
  #cursor = null; #frame = null; #asked = 0; #pointers = new Map(); #band = null; #grip = [];

  constructor(canvas, options) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d");
    this.#options = { xName: "step", xText: numberText, log: false, smoothing: 0, ...options };
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "chart");
    canvas.setAttribute("aria-label", options.label);
    canvas.style.touchAction = "pan-y";
    const on = (name, act) => canvas.addEventListener(name, (event) => { if (this.#frame) act(event); }, { passive: false });
    on("keydown", (event) => this.#key(event));
    on("wheel", (event) => this.#wheel(event));
    on("pointerdown", (event) => this.#press(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#release(event));
    on("pointercancel", (event) => this.#release(event));
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
        if (y === null || x <= curve.x[curve.x.length - 1]) return; // no value, or it is here already
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
    for (const curve of this.#curves) curve.smoothed = null;
    Object.assign(this.#options, options);
    this.#redraw();
  }

  zoom(factor, x = this.#center, speak = false) {
    const [low, high] = this.#range();
    this.#zoomTo([x - (x - low) * factor, x + (high - x) * factor], speak);
  }

  rows(limit = 200) {
    const all = new Map();
    this.#curves.forEach((curve, index) => {
      const [from, to] = this.#within(curve);
      for (let i = from; i < to; i++) {
        if (!all.has(curve.x[i])) all.set(curve.x[i], this.#curves.map(() => null));
        all.get(curve.x[i])[index] = curve.y[i];
      }
    });
    const sorted = [...all].sort((one, other) => one[0] - other[0]);
    const every = Math.ceil(sorted.length / limit) || 1;
    return sorted.filter((_, i) => i % every === 0 || i === sorted.length - 1).map(([x, ys]) => [x, ...ys]);
  }

  summary() {
    const { label, xName, xText } = this.#options;
    const told = this.#curves.flatMap((curve) => {
      const [from, to] = this.#within(curve);
      let best = -1, last = -1;
      for (let i = from; i < to; i++) {
        if (!Number.isFinite(curve.y[i])) continue;
        last = i;
        if (best < 0 || curve.y[i] < curve.y[best]) best = i;
      }
      const value = (i) => `${numberText(curve.y[i])} at ${xText(curve.x[i])}`;
      return best < 0 ? [] : [`${curve.name}: lowest ${value(best)}, last ${value(last)}`];
    });
    if (!told.length) return `${label}: no values yet.`;
    const [low, high] = this.#range();
    return `${label}, ${xName} ${xText(low)} to ${xText(high)}. ${told.join("; ")}.`;
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

  // The indices of a curve's points in the view: from the first to before the second.
  #within(curve) {
    const [low, high] = this.#range();
    let to = indexOf(curve.x, high);
    while (to < curve.x.length && curve.x[to] === high) to++;
    return [indexOf(curve.x, low), to];
  }

  #drawable(y) { return Number.isFinite(y) && !(this.#options.log && y <= 0); }

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
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    pen.lineJoin = "round";

    const style = getComputedStyle(canvas), { log, xName, xText } = this.#options;
    const [low, high] = this.#range(), [floor, ceiling] = this.#heights();
    const empty = floor > ceiling;
    const labels = empty ? [] : log ? logTicks(floor, ceiling) : ticks(floor, ceiling, height / 45);
    const left = 14 + Math.max(24, ...labels.map((each) => pen.measureText(numberText(each)).width));
    const right = width - 12, top = 10, bottom = height - 38, middle = (left + right) / 2;
    const scale = log ? Math.log10 : (y) => y;
    const { color, toX, toY } = this.#frame = {
      low, high, left, right, top, bottom,
      color: (name) => (name.startsWith("--") ? style.getPropertyValue(name).trim() : name),
      toX: (x) => left + ((x - low) / (high - low)) * (right - left),
      toY: (y) => bottom - ((scale(y) - scale(floor)) / (scale(ceiling) - scale(floor))) * (bottom - top),
    };

    pen.fillStyle = color("--soft");
    pen.strokeStyle = color("--line");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const each of labels) {
      const y = Math.round(toY(each)) + 0.5;
      line(pen, left, y, right, y);
      pen.fillText(numberText(each), left - 6, y);
    }
    line(pen, left, bottom + 0.5, right, bottom + 0.5);
    pen.textBaseline = "top";
    pen.textAlign = "center";
    for (const x of ticks(low, high, (right - left) / 75)) {
      const text = xText(x);
      pen.fillText(text, Math.min(toX(x), width - pen.measureText(text).width / 2), bottom + 6);
    }
    pen.fillText(xName, middle, height - 15);
    if (empty) return pen.fillText("No values yet", middle, (top + bottom) / 2);

    pen.save();
    pen.beginPath();
    pen.rect(left - 4, top - 6, right - left + 8, bottom - top + 7);
    pen.clip();
    this.#drawMarks();
    for (const curve of this.#curves) this.#drawCurve(curve);
    if (this.#band) {
      pen.globalAlpha = 0.15;
      pen.fillStyle = color("--accent");
      pen.fillRect(this.#band[0], top, this.#band[1] - this.#band[0], bottom - top);
    }
    pen.restore();
    if (this.#cursor !== null) this.#drawCursor(width);
  }

  // The range of the vertical axis; the first is above the second if there is nothing to show.
  #heights() {
    let least = Infinity, most = -Infinity;
    for (const curve of this.#curves) {
      let [from, to] = this.#within(curve);
      if (to - from < 2) [from, to] = [Math.max(0, from - 1), Math.min(curve.x.length, to + 1)];
      for (let i = from; i < to; i++) {
        if (!this.#drawable(curve.y[i])) continue;
        least = Math.min(least, curve.y[i]);
        most = Math.max(most, curve.y[i]);
      }
    }
    if (least > most) return [1, 0];
    if (this.#options.log) return least < most ? [least / 1.08, most * 1.08] : [least / 2, most * 2];
    const room = (most - least) * 0.06 || Math.abs(most) * 0.1 || 1;
    return [least - room, most + room];
  }

  #drawMarks() {
    const pen = this.#pen, { toX, top, bottom, left, right, color } = this.#frame;
    const shown = this.#marks.map(toX).filter((x) => x >= left - 6 && x <= right + 6);
    pen.strokeStyle = pen.fillStyle = color("--curve-4");
    pen.setLineDash([2, 4]);
    if (shown.length <= 30) for (const x of shown) line(pen, x, top, x, bottom);
    pen.setLineDash([]);
    for (const x of shown) {
      pen.beginPath();
      pen.moveTo(x, bottom - 8);
      pen.lineTo(x + 5, bottom);
      pen.lineTo(x - 5, bottom);
      pen.fill();
    }
  }

  #drawCurve(curve) {
    const pen = this.#pen, smoothing = curve.dots ? 0 : this.#options.smoothing; // those are few
    pen.strokeStyle = pen.fillStyle = this.#frame.color(curve.color);
    pen.lineWidth = curve.dots ? 2 : 1.5;
    pen.globalAlpha = smoothing ? 0.3 : 1;
    this.#trace(curve, curve.y, curve.dots);
    pen.globalAlpha = 1;
    if (!smoothing) return;
    curve.smoothed ??= smooth(curve.y, smoothing);
    pen.lineWidth = 2;
    this.#trace(curve, curve.smoothed, false);
  }

  // Draws the points of the view. Of many in one column of pixels, the lowest and the highest.
  #trace({ x: xs, ...curve }, ys, dots) {
    const pen = this.#pen, { left, right, toX, toY } = this.#frame;
    const drawn = (i) => this.#drawable(ys[i]);
    let [from, to] = this.#within({ x: xs, ...curve });
    const many = to - from > 4 * (right - left);
    dots = dots && to - from <= 60;
    [from, to] = [Math.max(0, from - 1), Math.min(xs.length, to + 1)];
    let drawing = false, column = null, least = 0, most = 0;
    const go = (i) => {
      if (drawing) pen.lineTo(toX(xs[i]), toY(ys[i])); else pen.moveTo(toX(xs[i]), toY(ys[i]));
      drawing = true;
    };
    const flush = () => {
      if (column !== null) for (const i of new Set([Math.min(least, most), Math.max(least, most)])) go(i);
      column = null;
    };
    pen.beginPath();
    for (let i = from; i < to; i++) {
      if (!drawn(i)) { flush(); drawing = false; continue; }
      if (!many) { go(i); continue; }
      const here = Math.floor(toX(xs[i]));
      if (here !== column) { flush(); column = here; least = most = i; }
      if (ys[i] < ys[least]) least = i;
      if (ys[i] > ys[most]) most = i;
    }
    flush();
    pen.stroke();
    if (many) return;
    for (let i = from; i < to; i++) {
      if (drawn(i) && (dots || (!drawn(i - 1) && !drawn(i + 1)))) dot(pen, toX(xs[i]), toY(ys[i]), 3);
    }
  }

  // At the cursor: of each curve the point that is nearest to it.
  #values() {
    const [low, high] = this.#range();
    return this.#curves.flatMap((curve) => {
      const i = nearest(curve.x, this.#cursor);
      if (!(curve.x[i] >= low && curve.x[i] <= high)) return [];
      return [{ curve, x: curve.x[i], y: curve.y[i], smoothed: curve.smoothed?.[i] }];
    });
  }

  #texts(values) {
    const { xName, xText } = this.#options, cursor = this.#cursor;
    const marked = this.#marks.includes(cursor) ? `, ${this.#markName}` : "";
    return [`${xName} ${xText(cursor)}${marked}`, ...values.map(({ curve, x, y, smoothed }) =>
      `${curve.name} ${numberText(y)}${smoothed ? ` (smoothed ${numberText(smoothed)})` : ""}${x === cursor ? "" : ` at ${xText(x)}`}`)];
  }

  #drawCursor(width) {
    const pen = this.#pen, { toX, toY, color, left, right, top, bottom } = this.#frame;
    const x = toX(this.#cursor), values = this.#values(), texts = this.#texts(values);
    pen.strokeStyle = color("--soft");
    pen.lineWidth = 1;
    line(pen, x, top, x, bottom);
    for (const each of values) {
      pen.fillStyle = color(each.curve.color);
      if (this.#drawable(each.y)) dot(pen, toX(each.x), toY(each.y), 4);
    }
    const wide = Math.min(right - left, Math.max(...texts.map((each) => pen.measureText(each).width)) + 28);
    const at = Math.round(x + 12 + wide < width ? x + 12 : Math.max(2, x - 12 - wide)) + 0.5;
    pen.fillStyle = color("--paper");
    pen.beginPath();
    pen.rect(at, top + 0.5, wide, texts.length * 18 + 10);
    pen.fill();
    pen.stroke();
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

  #say(text) { if (this.#options.spoken) this.#options.spoken.textContent = text; }

  #point(x, speak = false) {
    this.#cursor = x;
    if (speak) this.#say(x === null ? "" : this.#texts(this.#values()).join(", "));
    this.#redraw();
  }

  // Puts the cursor at the point of any curve that is nearest to an x.
  #snap(x, speak = false) {
    const near = this.#curves.filter((curve) => curve.x.length).map((curve) => curve.x[nearest(curve.x, x)]);
    near.sort((one, other) => Math.abs(one - x) - Math.abs(other - x));
    if (near.length) this.#point(near[0], speak);
  }

  // Moves the cursor to the next point of any curve; at an edge the view goes with it.
  #turn(turn) {
    const [low, high] = this.#range();
    if (this.#cursor === null) return this.#snap(turn > 0 ? low : high, true);
    const next = this.#curves.flatMap(({ x }) => {
      let i = indexOf(x, this.#cursor);
      if (turn < 0) i -= 1; else if (x[i] === this.#cursor) i += 1;
      return i in x ? [x[i]] : [];
    });
    const x = turn > 0 ? Math.min(...next) : Math.max(...next);
    if (!(x >= low && x <= high)) this.#pan(turn * 0.25);
    if (next.length) this.#point(x, true);
  }

  #zoomTo(view, speak = false) {
    if (!this.#extent) return;
    const [first, last] = this.#extent;
    if (view) {
      const span = Math.max(view[1] - view[0], (last - first) * 1e-9);
      const start = Math.min(Math.max(view[0], first), last - span);
      view = span < last - first ? [start, start + span] : null;
    }
    this.#view = view;
    if (view && (this.#cursor < view[0] || this.#cursor > view[1])) this.#cursor = null;
    if (speak) this.#say(this.summary());
    this.#options.onView?.(view);
    this.#redraw();
  }

  #pan(share) {
    const [low, high] = this.#range();
    if (this.#view) this.#zoomTo([low, high].map((each) => each + (high - low) * share), true);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [low, high] = this.#range(), { key } = event;
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (turn && event.shiftKey) this.#pan(turn * 0.25);
    else if (turn) this.#turn(turn);
    else if (key === "Home") this.#snap(low, true);
    else if (key === "End") this.#snap(high, true);
    else if (key === "+" || key === "=") this.zoom(0.5, this.#center, true);
    else if (key === "-") this.zoom(2, this.#center, true);
    else if (key === "0") this.#zoomTo(null, true);
    else if (key === "Escape") this.#point(null, true);
    else return;
    event.preventDefault();
  }

  #toValue(pixel) {
    const { left, right, low, high } = this.#frame;
    return low + ((pixel - left) / (right - left)) * (high - low);
  }

  #wheel(event) {
    const pinched = event.ctrlKey || event.metaKey;
    if (!pinched && document.activeElement !== this.#canvas) return;
    if (event.deltaY > 0 && !this.#view && !pinched) return; // all is shown: the page scrolls
    event.preventDefault();
    const turned = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    this.zoom(Math.exp(Math.max(-1, Math.min(1, turned / 300))), this.#toValue(event.offsetX));
  }

  #press(event) {
    if (event.button > 1) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event.offsetX);
    const pans = event.shiftKey || event.button === 1 || event.pointerType === "touch";
    this.#band = pans ? null : [event.offsetX, event.offsetX];
    this.#hold();
    if (event.pointerType === "touch") this.#snap(this.#toValue(event.offsetX), true);
  }

  // Remembers which x is under each finger.
  #hold() { this.#grip = [...this.#pointers.values()].map((pixel) => this.#toValue(pixel)); }

  #move(event) {
    const here = this.#toValue(event.offsetX);
    if (!this.#pointers.has(event.pointerId)) return this.#snap(here);
    this.#pointers.set(event.pointerId, event.offsetX);
    if (this.#band) this.#band[1] = event.offsetX;
    const [a, b] = [...this.#pointers.values()];
    if (this.#band || (b === undefined && !this.#view)) return this.#snap(here);
    // What was under each finger stays there.
    const { left, right, low, high } = this.#frame, [x, z] = this.#grip;
    const two = b !== undefined && Math.abs(b - a) > 10;
    const perPixel = two ? Math.abs((z - x) / (b - a)) : (high - low) / (right - left);
    const start = x - (a - left) * perPixel;
    this.#zoomTo([start, start + (right - left) * perPixel]);
  }

  #release(event) {
    const band = this.#band;
    if (!this.#pointers.delete(event.pointerId)) return;
    this.#band = null;
    this.#hold();
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

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}
