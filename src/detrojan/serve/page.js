"use strict";
// Whatever is shown was sent by strangers or read from a file: it is set as text, never as markup.
const at = (id) => document.getElementById(id);
const make = (name, text, kind) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
};
const draw = (name, values) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  return node;
};
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
const rounded = (value) => (value === null ? "not finite" : value.toPrecision(3));
const milliseconds = (value) => (value === null ? "–" : `${(value * 1000).toFixed(1)} ms`);
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "–");

const pairs = (list, values) => {
  list.replaceChildren(...Object.entries(values).map(([name, value]) => {
    const box = make("div");
    box.append(make("dt", name), make("dd", value));
    return box;
  }));
};

function chart(seen) {
  const [left, right, top, bottom] = [110, 790, 12, 236];
  const finite = seen.points.map((point) => point[1]).filter((value) => value !== null);
  const all = [...finite, ...seen.clean, seen.boundary];
  const low = Math.min(...all), high = Math.max(...all), room = (high - low || 1) * 0.06;
  const y = (value) => bottom - ((bottom - top) * (value - low + room)) / (high - low + 2 * room);
  const svg = at("chart"), bins = 24, counts = Array(bins).fill(0);
  svg.replaceChildren(draw("line", { x1: left, x2: left, y1: top, y2: bottom, class: "axis" }));
  for (const value of seen.clean) counts[Math.min(bins - 1, Math.floor((bins * (value - low)) / (high - low || 1)))] += 1;
  const most = Math.max(1, ...counts);
  counts.forEach((count, bin) => {
    const width = (40 * count) / most, step = (high - low) / bins;
    const upper = y(low + (bin + 1) * step), lower = y(low + bin * step);
    svg.append(draw("rect", { x: left - width, y: upper, width, height: Math.max(0, lower - upper - 1), class: "bar" }));
  });
  const points = seen.points;
  points.forEach(([, value, bad], place) => {
    const x = right - ((right - left - 10) * (points.length - 1 - place)) / Math.max(60, points.length - 1);
    svg.append(draw("circle", { cx: x, cy: value === null ? top : y(value), r: bad ? 4 : 2.5, class: bad ? "dot bad" : "dot" }));
  });
  svg.append(draw("line", { x1: left, x2: right, y1: y(seen.boundary), y2: y(seen.boundary), class: "limit" }));
  const label = (value, text) => {
    const node = draw("text", { x: 4, y: y(value) + 4 });
    node.textContent = text;
    svg.append(node);
  };
  label(seen.boundary, `≥ ${rounded(seen.boundary)}`);
  if (y(low) - y(seen.boundary) > 16) label(low, rounded(low));
  if (y(seen.boundary) - y(high) > 16) label(high, rounded(high));
  if (points.length) {
    const node = draw("text", { x: right, y: 254, "text-anchor": "end" });
    node.textContent = `${time(points[0][0])} to ${time(points[points.length - 1][0])}`;
    svg.append(node);
  }
}

// by the number of a rejected input: what was found of its region; empty while it is being searched
const regions = new Map();

async function search(seen) {
  const next = seen.explains && seen.latest.find((one) => one.png && !regions.has(one.number));
  if (!next) return;
  regions.set(next.number, {});
  try {
    const answer = await ask(`region/${next.number}`);
    regions.set(next.number, answer.ok ? await answer.json() : { failed: true });
  } catch {
    regions.delete(next.number);
  }
  for (const number of [...regions.keys()].slice(0, -100)) regions.delete(number);
}

function framed(one, size) {
  const [height, width] = size, found = regions.get(one.number)?.region;
  const box = make("div", undefined, "picture"), picture = make("img");
  picture.src = `data:image/png;base64,${one.png}`;
  picture.alt = found ? "rejected input; a frame marks what its answer rests on" : "rejected input";
  box.append(picture);
  if (found) {
    const frame = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    frame.append(draw("rect", { x: found.left, y: found.top, width: found.width, height: found.height, class: "box" }));
    box.append(frame);
  }
  return box;
}

function reason(one, explains) {
  const found = regions.get(one.number);
  if (!explains || !one.png || !found) return "";
  if (found.failed) return "";
  if (found.region === undefined) return "searching …";
  return found.region ? `rests on the frame; without it “${found.without}”` : "rests on no small part";
}

function latest(seen) {
  const items = seen.latest.map((one) => {
    const item = make("li");
    if (one.png) item.append(framed(one, seen.size));
    item.append(make("div", `“${one.label}”, ${one.reason === "overflow" ? "overflow" : rounded(one.score)}`), make("div", reason(one, seen.explains)), make("div", time(one.at), "soft"));
    return item;
  });
  at("latest").replaceChildren(...(items.length ? items : [make("li", "none yet")]));
}

function show(seen) {
  const state = at("state");
  state.className = `state ${{ usual: "usual", "under attack": "attack", "attack or drift": "attack", drifted: "drifted" }[seen.state]}`;
  const words = {
    usual: "As usual",
    "under attack": "Under attack",
    "attack or drift": "Under attack, or the data have drifted",
    drifted: "The data have drifted: recalibrate",
  };
  state.replaceChildren(make("strong", words[seen.state] + (seen.ready ? "" : " (stopping)")), make("span", seen.advice));
  pairs(at("counts"), {
    Inputs: seen.inputs.toLocaleString(),
    Rejected: `${seen.rejected.toLocaleString()} (${share(seen.rejected, seen.inputs)})`,
    Mode: seen.mode,
    "Median latency": milliseconds(seen.p50),
    "99% latency": milliseconds(seen.p99),
    Waiting: String(seen.waiting),
  });
  chart(seen);
  latest(seen);
  pairs(at("facts"), seen.facts);
  at("warnings").replaceChildren(...seen.warnings.map((text) => make("li", text)));
}

const ask = (path) => {
  const token = sessionStorage.getItem("token");
  return fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
};

async function refresh() {
  try {
    const answer = await ask("state");
    at("ask").hidden = answer.status !== 401;
    if (answer.ok) {
      const seen = await answer.json();
      show(seen);
      search(seen);
    }
    else at("state").textContent = answer.status === 401 ? "This service asks for its token." : `The service answers ${answer.status}.`;
  } catch {
    at("state").className = "state";
    at("state").textContent = "The service does not answer.";
  }
}
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  refresh();
});
refresh();
setInterval(refresh, 2000);
