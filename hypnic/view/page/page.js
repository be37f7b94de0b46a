// The live page. Everything that comes from outside is put in as text, never as markup.
"use strict";

const PER_G = 10000; // numbers of the stream are 0.1 mg
const DELAY = 0.25; // seconds by which the drawing is behind, so that it never waits for a message
const FRAME = 1000 / 30; // ms between two drawings: smooth, and easy on a phone's battery
const STILL_FRAME = 1000; // the same for who wants no motion
const NO_NEWS = 4000; // ms without a message after which the page says so
const DEAD = 15000; // ms without a message after which the connection is made anew
const SOON = 500, LATE = 8000; // ms between two attempts to connect: the first, and the most
const PRESS_KEPT = 600000; // ms for which a press may wait for its connection
const LOUD = 1000, FAINT = 0.2; // mg, ends of the energy scale
const LINEAR = 3, MOST = 2000; // mg: a lane is linear up to the one, as wide as a restless sleeper's movements, and ends at the other
const GRAVITY = 4; // s to each side over which the median counts as gravity: a breath is not in it, a turn is at once
const KNOT = 4; // bins between two values of gravity
const HOLE = 0.3; // s without a sample that are worth a word
const JERKS = ["hypnic_jerk", "isolated_jerk"];
const REST = { awake: "awake", settling: "settling", onset: "onset window", still: "still", off: "not worn" };

const at = (id) => document.getElementById(id);
const words = (label) => label.replaceAll("_", " ");

function clock(seconds, decimals = 0) {
  const whole = Math.floor(seconds);
  const pad = (n) => String(n).padStart(2, "0");
  const part = decimals ? "." + Math.floor((seconds - whole) * 10 ** decimals) : "";
  return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}${part}`;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---------------------------------------------------------------- what is known

let hello = null; // what the session is
let status = {};
let bins = new Map(); // number -> [least x, most x, least y, ...]
let newestBin = -1;
let gravity = new Map(); // number of every fourth bin -> [x, y, z], in 0.1 mg
let settledKnot = -1; // up to here it does not change any more
let levels = []; // [sample, energy, background, threshold, open]
const events = new Map(); // id -> row
let marks = [];
const presses = new Map(); // key -> ms on the clock: sent or waiting, and not yet in the night
let skipped = 0;

function begin(said) {
  const same = hello && hello.session === said.session;
  if (!same) {
    if (presses.size) say("A new session has begun: presses that were waiting belong to none.");
    presses.clear();
    events.clear();
    marks = [];
    at("events").replaceChildren();
    skipped = 0;
  }
  bins.clear();
  gravity.clear();
  settledKnot = -1;
  levels = [];
  newestBin = -1;
  head.known = false;
  hello = said;
  at("title").textContent = said.title;
  document.title = `hypnic · ${said.title}`;
  for (const key of presses.keys()) sendPress(key);
}

function take(message) {
  if (message.hello) begin(message.hello);
  if (message.refused) {
    presses.delete(message.key);
    say(`Not marked: ${message.refused}.`);
  }
  if (message.skipped) skipped += message.skipped;
  if (message.bins) {
    message.bins.forEach(takeRun);
    weigh();
  }
  if (message.levels) {
    levels.push(...message.levels);
    const oldest = levels.at(-1)[0] - (hello.window + 2) * hello.rate;
    const keep = levels.findIndex((level) => level[0] >= oldest);
    if (keep > 0) levels.splice(0, keep);
  }
  if (message.events) message.events.sort((a, b) => a.onset - b.onset).forEach(takeEvent);
  if (message.marks) takeMarks(message.marks);
  if (message.status) status = message.status;
  if (message.bins || message.skipped) head.seen();
  show();
}

function takeRun(run) {
  let number = run[0];
  for (let k = 1; k + 5 < run.length; k += 6, number++) bins.set(number, run.slice(k, k + 6));
  newestBin = Math.max(newestBin, number - 1);
  const oldest = newestBin - ((hello.window + 2) * hello.rate) / hello.bin;
  for (const known of bins.keys()) {
    if (known >= oldest) break;
    bins.delete(known);
  }
}

// What does not move: the median around every fourth bin, anew where bins to its right were missing.
function weigh() {
  const reach = Math.round((GRAVITY * hello.rate) / hello.bin);
  const oldest = bins.keys().next().value;
  for (const knot of gravity.keys()) {
    if (knot >= oldest - KNOT) break;
    gravity.delete(knot);
  }
  let knot = Math.max(settledKnot + KNOT, Math.floor(oldest / KNOT) * KNOT);
  for (; knot <= newestBin + KNOT; knot += KNOT) {
    const around = [[], [], []];
    for (let number = knot - reach; number <= knot + reach; number += KNOT) {
      const span = bins.get(number);
      if (span) for (let axis = 0; axis < 3; axis++) around[axis].push(span[2 * axis] + span[2 * axis + 1]);
    }
    if (around[0].length) gravity.set(knot, around.map((sums) => sums.sort((a, b) => a - b)[sums.length >> 1] / 2));
    if (knot + reach <= newestBin) settledKnot = knot;
  }
}

function still(number, axis) {
  const knot = Math.floor(number / KNOT) * KNOT;
  const before = gravity.get(knot) ?? gravity.get(knot + KNOT), after = gravity.get(knot + KNOT) ?? before;
  if (!before) return 0;
  return before[axis] + ((after[axis] - before[axis]) * (number - knot)) / KNOT;
}

// ---------------------------------------------------------------- the moving now

// Second of the recording at the right edge. It runs by this computer's clock, gently led by what comes.
const head = {
  known: false, second: 0, looked: 0, newest: 0, arrived: 0,
  seen() {
    if (newestBin < 0) return;
    this.newest = ((newestBin + 1) * hello.bin) / hello.rate;
    this.arrived = performance.now();
  },
  now() {
    const time = performance.now(), speed = hello.speed ?? 0;
    const wanted = this.newest + (Math.max(0, time - this.arrived) / 1000) * speed;
    if (!this.known || Math.abs(wanted - this.second) > 2 * Math.max(1, speed)) this.second = wanted;
    else {
      const passed = Math.min((time - this.looked) / 1000, 0.5);
      this.second += passed * speed;
      this.second += (wanted - this.second) * Math.min(1, passed * 1.5);
    }
    this.looked = time;
    this.known = this.newest > 0;
    return status.ended ? this.newest : this.second - DELAY * speed;
  },
};

// ---------------------------------------------------------------- drawing

const paint = {};
function readPaint() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["trace", "fill", "grid", "jerk", "other", "mark", "soft", "text", "line"])
    paint[name] = style.getPropertyValue(`--${name}`).trim();
  paint.font = `12px ${getComputedStyle(document.body).fontFamily}`;
}

function fit(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = paint.font;
  pen.textBaseline = "middle";
  return [pen, width, height];
}

const LEFT = 52, BOTTOM = 18;

function draw() {
  if (!hello || newestBin < 0) return;
  const right = head.now(), left = right - hello.window;
  drawTrace(left, right);
  drawEnergy(left, right);
}

function frame(pen, width, height, left, right) {
  const x = (second) => LEFT + ((second - left) / (right - left)) * (width - LEFT);
  pen.lineWidth = 1;
  pen.textAlign = "center";
  for (let back = 0; back <= hello.window; back += 10) {
    const place = Math.round(x(right - back)) - 0.5;
    pen.strokeStyle = paint.grid;
    pen.beginPath();
    pen.moveTo(place, 0);
    pen.lineTo(place, height - BOTTOM);
    pen.stroke();
    pen.fillStyle = paint.soft;
    if (back === 0) {
      pen.textAlign = "right";
      pen.fillText("now", width, height - 8);
      pen.textAlign = "center";
    } else if (back < hello.window && (width > 520 || back % 20 === 0)) pen.fillText(`−${back} s`, place, height - 8);
  }
  return x;
}

function shadeEvents(pen, x, left, right, top, bottom) {
  for (const event of events.values()) {
    const end = event.onset + Math.max(event.duration, 0.1);
    if (end < left || event.onset > right) continue;
    const jerk = JERKS.includes(event.label);
    const from = Math.max(x(event.onset), LEFT), to = Math.max(x(end), from + 2);
    pen.globalAlpha = event.revision ? 0.2 : 0.1;
    pen.fillStyle = jerk ? paint.jerk : paint.other;
    pen.fillRect(from, top, to - from, bottom - top);
    pen.globalAlpha = event.revision ? 1 : 0.55;
    const middle = (from + to) / 2;
    if (middle < LEFT + 6) {
      pen.globalAlpha = 1;
      continue;
    }
    pen.beginPath();
    if (jerk) {
      pen.moveTo(middle, top);
      pen.lineTo(middle + 5, top + 5);
      pen.lineTo(middle, top + 10);
      pen.lineTo(middle - 5, top + 5);
      pen.closePath();
    } else pen.arc(middle, top + 5, 2.5, 0, 7);
    pen.lineWidth = 1.5;
    pen.strokeStyle = pen.fillStyle;
    if (event.label === "isolated_jerk") pen.stroke();
    else pen.fill();
    pen.globalAlpha = 1;
  }
  for (const mark of marks) {
    if (mark.onset < left || mark.onset > right) continue;
    const place = x(mark.onset);
    pen.strokeStyle = pen.fillStyle = paint.mark;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(place, top);
    pen.lineTo(place, bottom);
    pen.stroke();
    pen.beginPath();
    pen.moveTo(place, bottom - 9);
    pen.lineTo(place + 5, bottom);
    pen.lineTo(place - 5, bottom);
    pen.fill();
  }
}

function drawTrace(left, right) {
  const [pen, width, height] = fit(at("trace"));
  const perBin = hello.bin / hello.rate;
  const first = Math.floor(left / perBin), last = Math.min(newestBin, Math.ceil(right / perBin));
  const x = frame(pen, width, height, left, right);
  const lane = (height - BOTTOM) / 3;
  const high = (mg) => (Math.asinh(mg / LINEAR) / Math.asinh(MOST / LINEAR)) * (lane / 2);
  const runs = [];
  for (let number = first; number <= last; number++) {
    if (!bins.has(number)) continue;
    const from = number;
    while (number <= last && bins.has(number)) number++;
    runs.push([from, number]);
  }
  shadeHoles(pen, x, runs, perBin, right, height - BOTTOM);
  for (let axis = 0; axis < 3; axis++) scale(pen, width, lane * axis, lane, high, "xyz"[axis]);
  shadeEvents(pen, x, left, right, 0, height - BOTTOM);
  for (let axis = 0; axis < 3; axis++) {
    const middle = lane * (axis + 0.5);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, lane * axis, width - LEFT, lane);
    pen.clip();
    pen.strokeStyle = pen.fillStyle = paint.trace;
    pen.lineWidth = 1;
    pen.lineJoin = "round";
    const y = (k, column) => middle - high(((bins.get(k)[column] - still(k, axis)) * 1000) / PER_G);
    for (const [from, to] of runs) {
      pen.beginPath();
      for (let k = from; k < to; k++) pen.lineTo(x((k + 0.5) * perBin), y(k, 2 * axis + 1));
      for (let k = to - 1; k >= from; k--) pen.lineTo(x((k + 0.5) * perBin), y(k, 2 * axis));
      pen.closePath();
      pen.fill();
      pen.stroke();
    }
    pen.restore();
  }
}

function scale(pen, width, top, lane, high, name) {
  const middle = top + lane / 2;
  const line = (colour, from, place) => {
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.moveTo(from, Math.round(place) - 0.5);
    pen.lineTo(width, Math.round(place) - 0.5);
    pen.stroke();
  };
  pen.lineWidth = 1;
  pen.textAlign = "left";
  pen.fillStyle = paint.text;
  pen.fillText(name, 4, middle);
  pen.textAlign = "right";
  pen.fillStyle = paint.soft;
  let free = middle - 9;
  for (const mg of [10, 100, 1000]) {
    const place = middle - high(mg);
    line(paint.grid, LEFT, place);
    line(paint.grid, LEFT, middle + high(mg));
    if (place <= free && place - 6 >= top) {
      pen.fillText(String(mg), LEFT - 6, place);
      free = place - 13;
    }
  }
  if (top) line(paint.line, 0, top);
}

function shadeHoles(pen, x, runs, perBin, right, bottom) {
  const holes = runs.slice(1).map(([from], k) => [runs[k][1] * perBin, from * perBin]);
  if (runs.length && !status.ended && status.silence >= 1) holes.push([runs.at(-1)[1] * perBin, right]);
  for (const [from, to] of holes) {
    if (to - from < HOLE) continue;
    pen.fillStyle = paint.grid;
    pen.fillRect(x(from), 0, x(to) - x(from), bottom);
    if (x(to) - x(from) < 80) continue;
    pen.fillStyle = paint.soft;
    pen.textAlign = "center";
    pen.fillText("no samples", (x(from) + x(to)) / 2, bottom / 6);
  }
}

function drawEnergy(left, right) {
  const [pen, width, height] = fit(at("energy"));
  const x = frame(pen, width, height, left, right);
  const bottom = height - BOTTOM, span = Math.log(LOUD / FAINT);
  const y = (mg) => bottom - (Math.log(Math.min(Math.max(mg, FAINT), LOUD) / FAINT) / span) * (bottom - 4);
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (const mg of [1, 10, 100]) {
    const place = Math.round(y(mg)) - 0.5;
    pen.strokeStyle = paint.grid;
    pen.beginPath();
    pen.moveTo(LEFT, place);
    pen.lineTo(width, place);
    pen.stroke();
    pen.fillStyle = paint.soft;
    pen.fillText(String(mg), LEFT - 6, place);
  }
  shadeEvents(pen, x, left, right, 0, bottom);
  const shown = levels.filter((level) => level[0] / hello.rate >= left - 1 && level[0] / hello.rate <= right + 1);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, width - LEFT, bottom);
  pen.clip();
  const line = (column, colour, dash, under) => {
    pen.beginPath();
    let before = -Infinity, from = null;
    const close = () => {
      if (!under || from === null) return;
      pen.lineTo(x(before), bottom);
      pen.lineTo(from, bottom);
    };
    for (const level of shown) {
      const second = level[0] / hello.rate;
      if (level[column] === null) continue;
      // A hole, and not just pieces that come far apart because the replay is fast.
      if (second - before > 3 * Math.max(0.5, (hello.speed ?? 60) / 10)) {
        close();
        from = x(second);
        pen.moveTo(from, y(level[column]));
      } else pen.lineTo(x(second), y(level[column]));
      before = second;
    }
    close();
    if (under) {
      pen.fillStyle = paint.fill;
      pen.fill();
      return;
    }
    pen.setLineDash(dash);
    pen.strokeStyle = colour;
    pen.lineWidth = column === 1 ? 1.6 : 1.4;
    pen.stroke();
    pen.setLineDash([]);
  };
  line(1, "", [], true);
  line(2, paint.soft, [2, 3]);
  line(3, paint.jerk, [7, 5]);
  line(1, paint.trace, []);
  pen.restore();
}

let drawn = 0;
function animate(time) {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (time - drawn >= (still ? STILL_FRAME : FRAME) - 2) {
    drawn = time;
    draw();
  }
  requestAnimationFrame(animate);
}

// ---------------------------------------------------------------- words

let announced = 0;
function announce(text) {
  // A second of the same words would not be read.
  at("announce").textContent = text + (announced++ % 2 ? "\u00a0" : "");
}

let said = "";
function say(text) {
  said = text;
  announce(text);
  show();
}

function put(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function show() {
  const ready = connected && hello && hello.records && !status.ended;
  const quiet = performance.now() - heard;
  let state = "live", link = "live";
  if (full) [state, link] = ["lost", full];
  else if (status.ended) [state, link] = ["over", `ended by ${status.ended}`];
  else if (!connected) [state, link] = ["lost", everConnected ? "no connection to hypnic" : "connecting"];
  else if (!hello) [state, link] = ["waiting", "waiting for the sensor"];
  else if (quiet > NO_NEWS) [state, link] = ["lost", `no news for ${Math.round(quiet / 1000)} s`];
  else if (status.link === "disconnected" || status.link === "stalled") [state, link] = ["lost", `sensor ${status.link}`];
  else if (status.silence >= 3) [state, link] = ["lost", `no samples for ${Math.round(status.silence)} s`];
  else if (hello.speed !== 1) link = hello.speed ? `replay, ${hello.speed} ×` : "replay";
  if (at("link-text").textContent !== link) {
    if (at("link").dataset.state !== state && everConnected) announce(link);
    at("link-text").textContent = link;
  }
  at("link").dataset.state = state;

  if (status.losses) {
    put("rest", status.rest ? (REST[status.rest] ?? status.rest) : "measuring");
    put("elapsed", clock(status.elapsed));
    put("clock", status.clock || "–");
    put("jerks", String(JERKS.reduce((sum, label) => sum + (status.found[label] ?? 0), 0)));
    const { received, missing } = status.losses;
    const share = (100 * missing) / Math.max(1, received + missing);
    put("lost", missing ? `${share < 0.1 ? "<0.1" : share.toFixed(1)} %` : "none");
    showLosses();
    const warnings = [...status.warnings];
    if (skipped) warnings.push(`this connection is slow: ${Math.round(skipped)} s of signal were not sent to this page`);
    at("warnings").hidden = !warnings.length;
    if (at("warnings").dataset.said !== warnings.join("\n")) {
      at("warnings").dataset.said = warnings.join("\n");
      at("warnings").replaceChildren(...warnings.map((text) => element("li", "", text)));
    }
    at("older").hidden = !status.older;
    put("older", `${status.older} older ones are not shown here; all are in what is recorded.`);
  }

  const keep = connected || !hello || status.ended ? ready : hello.records;
  at("felt").disabled = !keep;
  let hint = said;
  if (presses.size) hint = connected ? "Marking…" : `${presses.size} kept until the connection is back`;
  else if (hello && !hello.records) hint = "Nothing is recorded, so nothing can be marked: start with --record.";
  else if (status.ended && !said) hint = "The session has ended.";
  else if (!said && ready && marks.length) hint = `Last mark: ${marks.at(-1).clock || clock(marks.at(-1).onset, 1)}`;
  else if (!said && keep) hint = at("keys").checked && !window.matchMedia("(pointer: coarse)").matches ? "Press when you felt a jerk, or F" : "Press when you felt a jerk";
  put("felt-said", hint);
  at("undo").hidden = !(ready && marks.length && !presses.size);
  at("none").hidden = events.size + marks.length > 0;
}

function showLosses() {
  const pairs = [];
  if (hello.rate) pairs.push(["rate", `${hello.rate} Hz`]);
  if (status.measured) pairs.push(["measured", `${status.measured} Hz`]);
  for (const [name, count] of Object.entries(status.losses)) pairs.push([name, String(count)]);
  for (const [label, count] of Object.entries(status.found)) pairs.push([words(label), String(count)]);
  const text = JSON.stringify(pairs);
  if (at("losses").dataset.said === text) return;
  at("losses").dataset.said = text;
  at("losses").replaceChildren(
    ...pairs.map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", "", name), element("dd", "", value));
      return pair;
    }),
  );
}

// ---------------------------------------------------------------- events and marks

function takeEvent(event) {
  const before = events.get(event.id);
  events.set(event.id, event);
  const jerk = JERKS.includes(event.label);
  const item = element("li", `${event.label}${jerk ? " jerk" : ""}${event.revision ? "" : " provisional"}`);
  item.dataset.id = event.id;
  const state = event.revision === 0 ? "provisional" : event.revision > 1 ? "revised" : "";
  const what = element("span", "what");
  what.append(element("b", "", words(event.label)));
  if (jerk) what.append(" ", element("span", "score", event.score.toFixed(2)));
  if (state) what.append(" ", element("i", "", state));
  const peak = event.peak >= 10 ? Math.round(event.peak) : event.peak.toFixed(1);
  item.append(
    glyph(),
    what,
    element("span", "when", event.clock || clock(event.onset, 1)),
    element("span", "rest", `${peak} mg · ${event.duration.toFixed(2)} s · ${REST[event.rest] ?? event.rest}`),
    element("span", "since", event.clock ? clock(event.onset, 1) : ""),
  );
  place(item, event.onset, `li[data-id="${Number(event.id)}"]`);
  // What is no jerk would be too much to listen to.
  const fresh = status.elapsed !== undefined && event.onset > status.elapsed - 120 * Math.max(1, hello.speed ?? 60);
  if (!fresh || (before && before.label === event.label)) return;
  if (jerk) announce(`Candidate ${words(event.label)} at ${event.clock || clock(event.onset)}, score ${event.score.toFixed(2)}`);
  else if (before && JERKS.includes(before.label)) announce(`Revised: ${words(before.label)} is now ${words(event.label)}`);
}

function glyph() {
  const made = element("span", "glyph");
  made.setAttribute("aria-hidden", "true");
  return made;
}

// Newest first; a revision takes the place of the row before.
function place(item, onset, selector) {
  const list = at("events");
  list.querySelector(selector)?.remove();
  item.dataset.onset = onset;
  const after = [...list.children].find((other) => Number(other.dataset.onset) <= onset);
  list.insertBefore(item, after ?? null);
}

function takeMarks(now) {
  const before = new Set(marks.map((mark) => mark.number));
  const mine = now.filter((mark) => presses.delete(mark.key));
  const gone = marks.filter((mark) => !now.some((other) => other.number === mark.number));
  marks = now;
  for (const mark of gone) at("events").querySelector(`li[data-mark="${Number(mark.number)}"]`)?.remove();
  for (const mark of now) {
    if (before.has(mark.number)) continue;
    const item = element("li", "mark");
    item.dataset.mark = mark.number;
    const what = element("span", "what");
    what.append(element("b", "", mark.label === "felt" ? "felt" : words(mark.label)));
    const when = mark.clock || clock(mark.onset, 1);
    const undo = element("button", "", "Undo");
    undo.type = "button";
    undo.setAttribute("aria-label", `Undo the mark at ${when}`);
    undo.addEventListener("click", () => send({ undo: mark.number }));
    item.append(glyph(), what, undo, element("span", "rest", mark.clock ? `${when} · ${clock(mark.onset, 1)}` : when));
    place(item, mark.onset, `li[data-mark="${Number(mark.number)}"]`);
  }
  if (gone.length) say("Mark taken back.");
  if (mine.length) say(`Marked at ${mine.at(-1).clock || clock(mine.at(-1).onset, 1)}.`);
}

let touched = 0;
function press(event) {
  if (at("felt").disabled) return;
  // The time of the press, not of letting go, nor of when this code got its turn.
  const began = event.timeStamp - touched < 2000 ? touched : event.timeStamp;
  touched = 0;
  // crypto.randomUUID is not there on plain HTTP.
  const key = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  presses.set(key, Date.now() - Math.max(0, performance.now() - began));
  at("felt").classList.add("pressed");
  setTimeout(() => at("felt").classList.remove("pressed"), 250);
  sendPress(key);
  show();
}

function sendPress(key) {
  const age = Math.max(0, Date.now() - presses.get(key));
  if (age > PRESS_KEPT) {
    presses.delete(key);
    say("A press has waited too long for its connection, and is not marked.");
  } else if (connected && hello) send({ press: key, age: age / 1000 });
}

function undoLast() {
  const last = marks.reduce((newest, mark) => (newest && newest.number > mark.number ? newest : mark), null);
  if (last) send({ undo: last.number });
}

at("felt").addEventListener("pointerdown", (event) => (touched = event.timeStamp));
at("felt").addEventListener("click", press);
at("undo").addEventListener("click", undoLast);
document.addEventListener("keydown", (event) => {
  if (!at("keys").checked || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches?.("select, input:not([type=checkbox])")) return;
  if (event.key === "f" || event.key === "F") press(event);
  if ((event.key === "u" || event.key === "U") && !at("undo").hidden) undoLast();
});

// ---------------------------------------------------------------- the connection

let socket = null, connected = false, everConnected = false, full = "";
let wait = SOON, heard = performance.now();

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  const url = new URL("live", location.href);
  url.protocol = "ws:";
  const made = (socket = new WebSocket(url));
  made.addEventListener("open", () => {
    connected = everConnected = true;
    full = "";
    heard = performance.now();
    show();
  });
  made.addEventListener("message", (event) => {
    if (made !== socket) return;
    heard = performance.now();
    wait = SOON;
    take(JSON.parse(event.data));
  });
  made.addEventListener("close", (event) => {
    if (made !== socket) return;
    connected = false;
    full = event.code === 1013 ? event.reason : "";
    show();
    // A little by chance, so that many pages do not come back in one moment.
    setTimeout(connect, wait * (0.75 + Math.random() / 2));
    wait = Math.min(LATE, wait * 1.7);
  });
}

setInterval(() => {
  if (connected && performance.now() - heard > DEAD) socket.close();
  show();
}, 1000);

// ---------------------------------------------------------------- what this browser keeps

function kept(name, value) {
  // Private windows may refuse to keep anything.
  try {
    if (value !== undefined) localStorage.setItem(`hypnic-${name}`, value);
    return localStorage.getItem(`hypnic-${name}`);
  } catch {
    return null;
  }
}

function look(value) {
  document.documentElement.dataset.look = value;
  at("look").value = value;
  readPaint();
}
at("look").addEventListener("change", () => look(kept("look", at("look").value) ?? at("look").value));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readPaint);
at("keys").checked = kept("keys") !== "off";
at("keys").addEventListener("change", () => {
  kept("keys", at("keys").checked ? "on" : "off");
  show();
});
at("only").addEventListener("click", () => {
  const only = at("events").classList.toggle("only");
  at("only").setAttribute("aria-pressed", String(only));
});

look(["light", "dark", "night"].includes(kept("look")) ? kept("look") : "auto");
connect();
requestAnimationFrame(animate);
