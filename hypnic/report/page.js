"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // What came packed.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const level = bytes(data.level), on = bytes(data.on);
  const gravity = data.gravity.map((axis) => new Int8Array(bytes(axis).buffer));
  const KEYS = ["id", "onset", "label", "rest", "score", "peak", "duration", "asleep", "quiet_before", "prominence",
    "rise", "t90", "hf_ratio", "angle_change", "interval"];
  const events = data.events.map((row) => Object.fromEntries(row.map((value, n) => [KEYS[n], value])));
  const byId = new Map(events.map((event) => [event.id, event]));
  const waves = new Set(data.waves);
  const isJerk = (event) => event.label < data.jerks;

  // Time in words.
  const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const two = (number) => String(number).padStart(2, "0");
  function offset(t) {
    let found = data.offsets.length ? data.offsets[0][1] : 0;
    for (const [from, seconds] of data.offsets) if (t >= from) found = seconds;
    return found;
  }
  function span(t, decimals = 0) {
    const unit = 10 ** decimals, whole = Math.round(Math.max(0, t) * unit), seconds = Math.floor(whole / unit);
    const part = decimals ? "." + String(whole % unit).padStart(decimals, "0") : "";
    return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}${part}`;
  }
  function local(t) { return new Date((data.start + t + offset(t)) * 1000); }
  function clock(t, seconds = true) {
    if (data.start === null) return span(t);
    const moment = local(t), date = data.long ? `${DAYS[moment.getUTCDay()]} ${two(moment.getUTCDate())} ` : "";
    const tail = seconds ? ":" + two(moment.getUTCSeconds()) : "";
    return `${date}${two(moment.getUTCHours())}:${two(moment.getUTCMinutes())}${tail}`;
  }

  // Light and dark.
  const theme = $("theme"), root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const remember = (value) => { try { localStorage.setItem("hypnic-theme", value); } catch { /* not kept: no matter */ } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const nameTheme = () => { $("theme-name").textContent = isDark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("hypnic-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* the system decides */ }
  theme.hidden = false;
  nameTheme();
  dark.addEventListener("change", nameTheme);
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    nameTheme();
  });

  // The picture of the night.
  const plot = $("plot"), readout = $("readout");
  const SHORTEST = Math.min(10, data.duration);
  const PAPER = 720;
  let view = [0, data.duration], width = 0, places = [], drawn = null, printing = false;

  function node(name, attributes, parent, text) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  function timeTicks(room) {
    const least = ((view[1] - view[0]) * 76) / room;
    const step = STEPS.find((candidate) => candidate >= least) || Math.ceil(least / 86400) * 86400;
    const zero = data.start === null ? 0 : data.start + offset(view[0]);
    const ticks = [];
    for (let at = Math.ceil((zero + view[0]) / step) * step - zero; at <= view[1]; at += step) ticks.push(at);
    return [ticks, step];
  }
  function tickText(t, step) {
    if (data.start === null) return step < 60 ? span(t) : span(t).slice(0, -3);
    const moment = local(t);
    if (step >= 86400 || (data.long && moment.getUTCHours() === 0 && moment.getUTCMinutes() === 0 && step >= 60))
      return `${DAYS[moment.getUTCDay()]} ${two(moment.getUTCDate())}`;
    const text = `${two(moment.getUTCHours())}:${two(moment.getUTCMinutes())}`;
    return step < 60 ? `${text}:${two(moment.getUTCSeconds())}` : text;
  }

  const shown = new Set(events.map((event) => event.label));
  const rows = data.labels.map((name, n) => n).filter((n) => shown.has(n));
  const sources = [];
  for (const mark of data.marks) {
    const source = mark[3].split(":")[0] || "remarks";
    if (!sources.includes(source) && sources.length < 4) sources.push(source);
  }
  const states = data.rests.map((name, n) => n).filter((n) => data.rest.some((bout) => bout[2] === n));

  function draw() {
    width = printing ? PAPER : Math.max(280, plot.clientWidth || 280);
    const narrow = width < 560, left = narrow ? 88 : 112, right = width - 6, room = right - left;
    const x = (t) => left + ((t - view[0]) / (view[1] - view[0])) * room;
    const clip = (t) => Math.min(right, Math.max(left, x(t)));
    const seen = (from, length) => from + length >= view[0] && from <= view[1];
    const svg = node("svg", { viewBox: `0 0 ${width} 10`, role: "img" });
    const behind = node("g", {}, svg), front = node("g", {}, svg);
    const say = (y, text, kind = "name") => node("text", { x: left - 10, y, class: `end ${kind}` }, front, text);
    places = [];
    let y = 4;

    if (data.windows.length) {
      say(y + 11, "falling asleep");
      let last = -99;
      for (const [from, to, number] of data.windows) {
        if (!seen(from, to - from)) continue;
        const a = clip(from), b = Math.max(clip(to), a + 1);
        node("rect", { x: a, y: y + 3, width: b - a, height: 8, rx: 2, class: "bar" }, front);
        if (b - a > 16 && a > last) {
          node("rect", { x: a + 2, y: y + 1, width: 6 + 6 * String(number).length, height: 12, rx: 3, class: "tint" }, front);
          node("text", { x: a + 5, y: y + 11, class: "window" }, front, number);
          last = a + 14;
        }
      }
      y += 24;
    }
    const top = y;

    // Band energy: from the lowest to the highest of what falls on a pixel.
    const H = narrow ? 76 : 96, code = (value) => y + H - ((value - 1) / 254) * H;
    say(y + 11, "movement");
    for (const [mg, text] of [[1, "1 mg"], [10, "10 mg"], [100, "100 mg"], [1000, "1 g"]]) {
      const at = y + H - (Math.log10(mg / data.lowest) / data.decades) * H;
      node("path", { d: `M${left} ${at}H${right}`, class: "grid" }, behind);
      if (mg !== 1000) say(at + 4, text, "");
    }
    const high = [], low = [];
    let path = "";
    const close = () => {
      if (high.length) path += "M" + high.join("L") + "L" + low.reverse().join("L") + "Z";
      high.length = low.length = 0;
    };
    for (let pixel = 0; pixel < room; pixel += 1) {
      const from = view[0] + ((view[1] - view[0]) * pixel) / room, to = view[0] + ((view[1] - view[0]) * (pixel + 1)) / room;
      const first = Math.floor(from / data.width), last = Math.max(first + 1, Math.floor(to / data.width));
      let most = 0, least = 256;
      for (let n = first; n < last && n < level.length; n++) {
        if (!level[n]) continue;
        if (level[n] > most) most = level[n];
        if (level[n] < least) least = level[n];
      }
      if (!most) { close(); continue; }
      high.push(`${(left + pixel).toFixed(1)} ${code(most).toFixed(1)}`);
      low.push(`${(left + pixel).toFixed(1)} ${Math.min(code(least) + 0.5, y + H).toFixed(1)}`);
    }
    close();
    node("path", { d: path, class: "envelope" }, front);
    let threshold = "", run = false;
    const each = Math.max(1, Math.floor(((view[1] - view[0]) / data.epoch / room) * 3));
    for (let n = Math.max(0, Math.floor(view[0] / data.epoch)); n < on.length && n * data.epoch <= view[1]; n += each) {
      const at = x((n + 0.5) * data.epoch);
      if (!on[n] || at < left) { run = false; continue; }
      threshold += `${run ? "L" : "M"}${at.toFixed(1)} ${code(on[n]).toFixed(1)}`;
      run = true;
    }
    node("path", { d: threshold, class: "on" }, front);
    y += H + 14;

    // A mattress does not turn with the sleeper.
    if (data.site !== "mattress") {
      const P = narrow ? 46 : 54, from = Math.max(0, Math.floor(view[0] / data.epoch));
      const to = Math.min(gravity[0].length, Math.ceil(view[1] / data.epoch)), skip = Math.max(1, (to - from) / room);
      say(y + 11, "posture");
      node("path", { d: `M${left} ${y + P / 2}H${right}`, class: "grid" }, behind);
      ["x", "y", "z"].forEach((name, axis) => {
        let line = "", going = false;
        for (let n = from; n < to; n += skip) {
          const value = gravity[axis][Math.floor(n)], at = x((Math.floor(n) + 0.5) * data.epoch);
          if (value === -128 || at < left || at > right) { going = going && value !== -128; continue; }
          line += `${going ? "L" : "M"}${at.toFixed(1)} ${(y + P / 2 - (Math.max(-110, Math.min(110, value)) / 110) * (P / 2)).toFixed(1)}`;
          going = true;
        }
        node("path", { d: line, class: `g ${name}` }, front);
        node("path", { d: `M${left - 38} ${y + 21 + axis * 12}H${left - 20}`, class: `g ${name}` }, front);
        say(y + 25 + axis * 12, name, "");
      });
      y += P + 16;
    }

    if (states.length) {
      const S = 13;
      states.forEach((state, n) => say(y + S * n + 10, data.rests[state]));
      for (const [from, length, state] of data.rest) {
        if (!seen(from, length)) continue;
        const a = clip(from), b = clip(from + length), n = states.indexOf(state);
        node("rect", { x: a, y: y + S * n + 1, width: Math.max(0.5, b - a), height: S - 2, class: `rest ${data.rests[state]}` }, front);
      }
      y += S * states.length + 14;
    }

    for (const label of rows) {
      const middle = y + 8, name = data.labels[label], taken = new Set();
      say(middle + 4, narrow ? name.replace("sensor_", "").replace("posture_", "") : name);
      node("path", { d: `M${left} ${middle}H${right}`, class: "grid" }, behind);
      const group = node("g", { class: `mark ${name}` }, front);
      for (const event of events) {
        if (event.label !== label || event.onset === null || !seen(event.onset, event.duration)) continue;
        const at = Math.round(x(event.onset) * 2) / 2;
        if (at < left - 1 || at > right + 1) continue;
        places.push([at, middle, event]);
        if (taken.has(at)) continue;
        taken.add(at);
        node("use", { href: `#shape-${name}`, x: at, y: middle }, group);
      }
      y += isJerk({ label }) ? 19 : 17;
    }
    for (const source of sources) {
      const middle = y + 8;
      say(middle + 4, source.slice(0, narrow ? 13 : 17));
      const group = node("g", { class: "mark remark" }, front), taken = new Set();
      for (const mark of data.marks) {
        if ((mark[3].split(":")[0] || "remarks") !== source || mark[2].startsWith("state:")) continue;
        const at = Math.round(x(mark[0]));
        if (at < left || at > right) continue;
        places.push([at, middle, { mark }]);
        if (taken.has(at)) continue;
        taken.add(at);
        // What is called by a label of ours is the truth of a simulation: its jerks stand out.
        const label = data.labels.indexOf(mark[2]);
        const shape = label < 0 ? "remark" : isJerk({ label }) ? mark[2] : "tick";
        node("use", { href: `#shape-${shape}`, x: at, y: middle }, group);
      }
      y += 17;
    }
    if (data.gaps.length) {
      say(y + 12, "gaps");
      for (const [from, length] of data.gaps) {
        if (!seen(from, length)) continue;
        const a = clip(from), b = Math.max(clip(from + length), a + 1.5);
        node("rect", { x: a, y: top, width: b - a, height: y + 2 - top, class: "gap" }, behind);
        node("rect", { x: a, y: y + 3, width: b - a, height: 10, class: "lost" }, front);
      }
      y += 18;
    }
    const bottom = y + 2;
    for (const [from, to] of data.windows) {
      if (!seen(from, to - from)) continue;
      const a = clip(from);
      behind.prepend(node("rect", { x: a, y: top, width: Math.max(0.5, clip(to) - a), height: bottom - top, class: "tint" }));
    }
    const [ticks, step] = timeTicks(room);
    for (const t of ticks) {
      node("path", { d: `M${x(t)} ${top}V${bottom}`, class: "grid" }, behind);
      node("text", { x: Math.min(x(t), width - 24), y: bottom + 15, class: "middle" }, front, tickText(t, step));
    }
    const height = bottom + 22;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const counted = data.labels.map((name, n) => [name, places.filter((place) => place[2].label === n).length]);
    svg.setAttribute("aria-label", `${clock(view[0])} to ${clock(view[1])}: ` +
      (counted.filter(([, n]) => n).map(([name, n]) => `${n} ${name}`).join(", ") || "no events"));
    const cross = node("path", { class: "cross", d: "" }, front);
    const selection = node("rect", { class: "select", y: top, height: bottom - top, x: 0, width: 0 }, front);
    drawn = { svg, cross, selection, left, right, room, top, bottom, height,
      t: (px) => view[0] + ((Math.min(right, Math.max(left, px)) - left) / room) * (view[1] - view[0]) };
    plot.replaceChildren(svg);
    $("span").textContent = `${clock(view[0])} to ${clock(view[1])}`;
    for (const button of document.querySelectorAll("[data-do]")) {
      const whole = view[0] <= 0 && view[1] >= data.duration, what = button.dataset.do;
      const idle = what === "in" ? view[1] - view[0] <= SHORTEST : what === "left" ? view[0] <= 0
        : what === "right" ? view[1] >= data.duration : whole;
      button.setAttribute("aria-disabled", String(idle));
    }
  }

  let due = 0;
  function show(from, to) {
    let length = Math.min(Math.max(to - from, SHORTEST), data.duration);
    const middle = (from + to) / 2;
    let start = to - from < SHORTEST ? middle - length / 2 : from;
    start = Math.min(Math.max(0, start), data.duration - length);
    view = [start, start + length];
    if (!due) due = requestAnimationFrame(() => { due = 0; draw(); if ($("in-view").checked) list(); });
  }
  function zoom(factor, at = (view[0] + view[1]) / 2) {
    const length = Math.min(Math.max((view[1] - view[0]) * factor, SHORTEST), data.duration);
    const start = at - ((at - view[0]) / (view[1] - view[0])) * length;
    show(start, start + length);
  }
  const pan = (part) => {
    const by = (view[1] - view[0]) * part;
    const to = Math.min(Math.max(view[0] + by, 0), data.duration - (view[1] - view[0]));
    show(to, to + view[1] - view[0]);
  };
  const DO = { in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.3), right: () => pan(0.3),
    whole: () => show(0, data.duration) };
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => DO[button.dataset.do]());
  const KEYBOARD = { "+": "in", "=": "in", "-": "out", "−": "out", ArrowLeft: "left", ArrowRight: "right", 0: "whole", Home: "whole" };
  plot.addEventListener("keydown", (press) => {
    const what = KEYBOARD[press.key];
    if (!what || press.ctrlKey || press.metaKey || press.altKey) return;
    press.preventDefault();
    DO[what]();
  });
  const inside = (point) => {
    const box = plot.getBoundingClientRect();
    return [((point.clientX - box.left) * width) / box.width, ((point.clientY - box.top) * width) / box.width];
  };
  // The wheel scrolls the page until somebody has clicked into the picture; sideways it always moves.
  plot.addEventListener("wheel", (turn) => {
    if (Math.abs(turn.deltaX) > Math.abs(turn.deltaY)) { turn.preventDefault(); pan(turn.deltaX / 900); return; }
    if (!turn.ctrlKey && document.activeElement !== plot) return;
    turn.preventDefault();
    zoom(Math.exp(Math.max(-1, Math.min(1, turn.deltaY / 300))), drawn.t(inside(turn)[0]));
  }, { passive: false });

  const fingers = new Map();
  let press = null;
  plot.addEventListener("pointerdown", (point) => {
    if (point.button) return;
    fingers.set(point.pointerId, inside(point));
    press = { from: inside(point)[0], view: [...view], moved: false, touch: point.pointerType === "touch" };
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()].map((place) => drawn.t(place[0]));
      press.pinch = [Math.min(a, b), Math.max(a, b)];
    }
  });
  const nearest = (px, py) => {
    let best = null, away = 12;
    for (const place of places) {
      const distance = Math.hypot(place[0] - px, (place[1] - py) * 1.2);
      if (distance < away) { away = distance; best = place; }
    }
    return best;
  };
  plot.addEventListener("pointermove", (point) => {
    const [px, py] = inside(point);
    if (press && fingers.has(point.pointerId)) {
      if (Math.abs(px - press.from) > 4 && !press.moved) { press.moved = true; try { plot.setPointerCapture(point.pointerId); } catch { /* gone already */ } }
      fingers.set(point.pointerId, [px, py]);
      if (press.pinch && fingers.size === 2) {
        const [a, b] = [...fingers.values()].map((place) => place[0]).sort((p, q) => p - q);
        if (b - a < 10) return;
        const scale = (press.pinch[1] - press.pinch[0]) / (b - a), start = press.pinch[0] - (a - drawn.left) * scale;
        show(start, start + drawn.room * scale);
      } else if (press.touch && press.moved) {
        const by = ((press.from - px) / drawn.room) * (press.view[1] - press.view[0]);
        const to = Math.min(Math.max(press.view[0] + by, 0), data.duration - (press.view[1] - press.view[0]));
        show(to, to + press.view[1] - press.view[0]);
      } else if (press.moved) {
        const a = Math.max(drawn.left, Math.min(press.from, px)), b = Math.min(drawn.right, Math.max(press.from, px));
        drawn.selection.setAttribute("x", a);
        drawn.selection.setAttribute("width", Math.max(0, b - a));
      }
      return;
    }
    if (px < drawn.left || px > drawn.right) { leave(); return; }
    const t = drawn.t(px), found = nearest(px, py);
    drawn.cross.setAttribute("d", `M${px} ${drawn.top}V${drawn.bottom}`);
    plot.style.cursor = found ? "pointer" : "";
    readout.replaceChildren();
    const bold = document.createElement("b");
    if (found && found[2].mark) {
      bold.textContent = `${clock(found[2].mark[0])} ${found[2].mark[2]}`;
      readout.append(bold, ` ${found[2].mark[3]}`);
    } else if (found) {
      const event = found[2];
      bold.textContent = `${clock(event.onset)} ${data.labels[event.label]}`;
      readout.append(bold, `  score ${number(event.score, 2)}, peak ${number(event.peak, 0)} mg, ${number(event.duration, 2)} s`);
    } else {
      bold.textContent = clock(t);
      const bout = data.rest.find(([from, length]) => t >= from && t < from + length);
      const code = level[Math.min(level.length - 1, Math.floor(t / data.width))];
      const mg = code ? data.lowest * 10 ** (((code - 1) / 254) * data.decades) : null;
      const gap = data.gaps.find(([from, length]) => t >= from && t < from + length);
      readout.append(bold, `  ${bout ? data.rests[bout[2]] + ", " : ""}` +
        (gap ? `no data: ${gap[2] || "lost"}` : mg === null ? "no data" : `band energy ${mg < 10 ? mg.toFixed(1) : mg.toFixed(0)} mg`));
    }
  });
  function leave() {
    drawn.cross.setAttribute("d", "");
    readout.textContent = "\u00a0";
    plot.style.cursor = "";
  }
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("pointerup", (point) => {
    const was = press, [px, py] = inside(point);
    fingers.delete(point.pointerId);
    if (fingers.size) return;
    press = null;
    if (!was) return;
    if (!was.moved) {
      const found = nearest(px, py);
      if (found && !found[2].mark) toRow(found[2].id);
      return;
    }
    if (!was.touch && Math.abs(px - was.from) > 4) {
      const a = drawn.t(was.from), b = drawn.t(px);
      show(Math.min(a, b), Math.max(a, b));
    }
  });
  plot.addEventListener("pointercancel", (point) => { fingers.delete(point.pointerId); if (!fingers.size) press = null; });
  plot.addEventListener("dblclick", () => show(0, data.duration));

  // The table.
  const PAGE = 200;
  const byLabel = $("by-label"), byRest = $("by-rest"), byScore = $("by-score"), byPeak = $("by-peak");
  const body = document.querySelector("#table tbody"), fold = $("fold"), more = $("more");
  let order = { key: "time", down: false }, limit = PAGE;

  const number = (value, decimals) => (value === null || value === undefined ? "–" : value.toFixed(decimals));
  const option = (select, value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    select.append(made);
  };
  const jerks = events.filter(isJerk).length;
  option(byLabel, "jerks", `jerks (${jerks})`);
  option(byLabel, "all", `all (${events.length})`);
  for (const label of rows)
    option(byLabel, label, `${data.labels[label]} (${events.filter((event) => event.label === label).length})`);
  option(byRest, "all", "any");
  data.rests.forEach((name, n) => { if (events.some((event) => event.rest === n)) option(byRest, n, name); });

  function wanted() {
    const least = Number(byScore.value) || 0, peak = Number(byPeak.value) || 0;
    return events.filter((event) =>
      (byLabel.value === "all" || (byLabel.value === "jerks" ? isJerk(event) : event.label === Number(byLabel.value))) &&
      (byRest.value === "all" || event.rest === Number(byRest.value)) &&
      (event.score ?? 0) >= least && (event.peak ?? 0) >= peak &&
      (!$("in-view").checked || (event.onset + event.duration >= view[0] && event.onset <= view[1])));
  }
  const value = (event, key) => (key === "time" ? event.onset : event[key]);
  function sorted(found) {
    const { key, down } = order, turn = down ? -1 : 1;
    return found.sort((a, b) => {
      const p = value(a, key), q = value(b, key);
      // What is not known comes last, whichever way.
      if (p === null || q === null) return (p === null) - (q === null) || a.onset - b.onset;
      return turn * (p - q) || a.onset - b.onset;
    });
  }
  function link(text, href) {
    const made = document.createElement("a");
    made.href = href;
    made.textContent = text;
    return made;
  }
  function glyph(name) {
    const svg = node("svg", { viewBox: "-8 -8 16 16", width: 12, height: 12, class: "glyph", "aria-hidden": "true" });
    node("use", { href: `#shape-${name}`, class: `mark ${name}` }, svg);
    return svg;
  }
  function line(event) {
    const row = document.createElement("tr");
    row.id = `event-${event.id}`;
    row.tabIndex = -1;
    if (isJerk(event)) row.className = "jerk";
    for (const column of data.columns) {
      const cell = document.createElement(column.key === "time" ? "th" : "td");
      if (column.key === "time") {
        cell.scope = "row";
        const button = document.createElement("button");
        button.type = "button";
        button.className = "plain";
        button.dataset.zoom = event.id;
        button.textContent = clock(event.onset);
        button.title = `Show the place in the night: ${span(event.onset, 2)} from the start`;
        cell.append(button);
      } else if (column.key === "label") {
        const name = data.labels[event.label];
        cell.append(glyph(name), waves.has(event.id) ? link(name, `#wave-${event.id}`) : name);
      } else if (column.key === "rest") {
        cell.textContent = data.rests[event.rest] ?? "–";
      } else {
        cell.className = "number";
        cell.textContent = column.key === "asleep" && !event.asleep ? "–" : number(event[column.key], column.decimals);
      }
      if (!column.first && !$("columns").checked) cell.hidden = true;
      row.append(cell);
    }
    return row;
  }
  function list() {
    const found = sorted(wanted()), part = found.slice(0, limit);
    body.replaceChildren(...part.map(line));
    const left = found.length - part.length;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
    const others = events.length - jerks, open = byLabel.value !== "jerks";
    fold.hidden = !others;
    fold.setAttribute("aria-expanded", String(open));
    fold.textContent = open ? "Fold the other events away" : `Show the ${others} other event${others === 1 ? "" : "s"}`;
    const whole = byLabel.value === "jerks" ? jerks : byLabel.value === "all" ? events.length : events.filter((e) => e.label === Number(byLabel.value)).length;
    const kind = byLabel.value === "jerks" ? (whole === 1 ? "jerk (a candidate)" : "jerks (candidates)") : byLabel.value === "all" ? (whole === 1 ? "event" : "events") : data.labels[Number(byLabel.value)];
    $("count").textContent = (found.length === whole ? `${whole} ${kind}` : `${found.length} of ${whole} ${kind}`) +
      (left > 0 ? `, the first ${part.length} shown` : "") +
      (data.left ? `. ${data.left} weaker events were left out of this page` : "");
    for (const head of document.querySelectorAll("#table th[data-key]")) {
      const ours = head.dataset.key === order.key;
      head.setAttribute("aria-sort", ours ? (order.down ? "descending" : "ascending") : "none");
    }
  }
  for (const head of document.querySelectorAll("#table th[data-key]"))
    head.querySelector("button").addEventListener("click", () => {
      const key = head.dataset.key;
      // Numbers are first wanted from the largest down.
      order = order.key === key ? { key, down: !order.down } : { key, down: !["time", "label", "rest", "id"].includes(key) };
      list();
    });
  const filtered = () => { limit = PAGE; list(); };
  for (const input of [byLabel, byRest, byScore, byPeak, $("in-view")]) input.addEventListener("input", filtered);
  $("filters").addEventListener("submit", (submit) => submit.preventDefault());
  $("columns").addEventListener("input", () => {
    document.querySelectorAll("#table thead th").forEach((head, n) => { head.hidden = !data.columns[n].first && !$("columns").checked; });
    list();
  });
  fold.addEventListener("click", () => { byLabel.value = byLabel.value === "jerks" ? "all" : "jerks"; filtered(); });
  more.addEventListener("click", () => { limit += PAGE; list(); });

  // From one to the other.
  function mark(element) {
    document.querySelectorAll(".here").forEach((other) => other.classList.remove("here"));
    element.classList.add("here");
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center" });
  }
  function toRow(id) {
    const event = byId.get(id);
    if (!event) return;
    if (!$(`event-${id}`)) {
      byRest.value = "all";
      byScore.value = byPeak.value = "0";
      $("in-view").checked = false;
      byLabel.value = isJerk(event) ? "jerks" : "all";
      limit = Math.max(limit, Math.ceil((sorted(wanted()).indexOf(event) + 1) / PAGE) * PAGE);
      list();
    }
    mark($(`event-${id}`));
  }
  document.addEventListener("click", (click) => {
    const zoomed = click.target.closest("[data-zoom]");
    if (zoomed) {
      const event = byId.get(Number(zoomed.dataset.zoom));
      if (!event) return;
      show(event.onset - 90, event.onset + 90);
      plot.focus({ preventScroll: true });
      plot.scrollIntoView({ block: "center" });
      return;
    }
    const anchor = click.target.closest("a[href^='#wave-'], a[href^='#event-']");
    if (!anchor) return;
    const [kind, id] = anchor.getAttribute("href").slice(1).split("-");
    const card = kind === "wave" ? $(`wave-${id}`) : null;
    click.preventDefault();
    history.replaceState(null, "", anchor.getAttribute("href"));
    if (card) mark(card); else toRow(Number(id));
  });

  $("no-script").hidden = true;
  $("overview").hidden = $("list").hidden = false;
  document.querySelectorAll(".card [data-zoom]").forEach((button) => { button.hidden = false; });
  draw();
  list();
  addEventListener("beforeprint", () => { printing = true; draw(); });
  addEventListener("afterprint", () => { printing = false; draw(); });
  new ResizeObserver(() => { if (!printing && plot.clientWidth && plot.clientWidth !== width) draw(); }).observe(plot);
  const asked = /^#event-(\d+)$/.exec(location.hash);
  if (asked) toRow(Number(asked[1]));
})();
