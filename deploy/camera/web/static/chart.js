// Latency as SVG: what each stage takes, and the last minute. Colors are the style sheet's.

const NAMESPACE = "http://www.w3.org/2000/svg";
const PERCENTILES = ["p50", "p90", "p99"];

// One row a stage: a bar to each percentile, all on one scale, and the figures.
export function drawStages(body, stages) {
  const largest = Math.max(...Object.values(stages).map((figures) => figures.p99), 1e-3);
  body.replaceChildren(...Object.entries(stages).map(([stage, figures]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = stage;
    const cell = document.createElement("td");
    cell.className = "bar";
    const bars = [...PERCENTILES].reverse().map((p) => bar(p, figures[p] / largest));
    cell.append(shape("svg", {"aria-hidden": "true"}, bar("track", 1), ...bars));
    row.append(head, cell, ...PERCENTILES.map((p) => {
      const figure = document.createElement("td");
      figure.textContent = milliseconds(figures[p]);
      return figure;
    }));
    return row;
  }));
}

// Lines over the time before now; steps without a frame are gaps.
export function drawHistory(svg, history, span) {
  const width = svg.clientWidth, height = svg.clientHeight, left = 40, right = 6, top = 10, bottom = 22;
  const scale = niceScale(Math.max(...history.map((step) => step.p99), 1));
  const x = (age) => width - right - (width - left - right) * Math.min(age / span, 1);
  const y = (value) => height - bottom - (height - top - bottom) * value / scale.top;
  const parts = [];
  for (let value = 0; value <= scale.top * 1.001; value += scale.step) {
    parts.push(shape("line", {class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value)}));
    parts.push(label(left - 6, y(value) + 4, "end", String(Number(value.toPrecision(3)))));
  }
  for (const age of [0, span / 2, span]) {
    parts.push(label(x(age), height - 5, age === 0 ? "end" : age === span ? "start" : "middle",
      age === 0 ? "now" : `${age} s ago`));
  }
  for (const p of [...PERCENTILES].reverse()) {
    let path = "", before = null;
    for (const step of history) {
      path += `${before !== null && before - step.age < 1.5 ? "L" : "M"}${x(step.age).toFixed(1)},${y(step[p]).toFixed(1)}`;
      before = step.age;
    }
    parts.push(shape("path", {class: `line ${p}`, d: path}));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
}

export function milliseconds(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function niceScale(largest) {
  const power = 10 ** Math.floor(Math.log10(largest / 3));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => largest / size <= 4);
  return {step, top: Math.ceil(largest / step) * step};
}

function bar(name, share) {
  return shape("rect", {class: name, width: `${Math.min(share, 1) * 100}%`, height: "100%", rx: 3});
}

function label(x, y, anchor, text) {
  const element = shape("text", {x, y, "text-anchor": anchor});
  element.textContent = text;
  return element;
}

function shape(name, attributes, ...children) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
