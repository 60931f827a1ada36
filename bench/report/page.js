// What a page does beyond reading: tables sort, charts answer to a pointer or the arrow keys, rows come and go, links
// unfold what they lead to. Without it the page is whole: every chart stands in for an image that stays in the page.
"use strict";

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// --------------------------------------------------------------------------------------------------------------------
// Tables
// --------------------------------------------------------------------------------------------------------------------

// A bound such as "<0.5" sorts by its number; what has none comes last, whichever way.
const number = text => {
  const found = text.replaceAll(",", "").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/);
  return found ? Number(found[0]) : NaN;
};

const sortable = table => {
  const body = table.tBodies[0], headers = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) return;
  headers.forEach((header, column) => {
    const button = element("button", {type: "button"}, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headers.forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const key = row => row.cells[column].textContent.trim();
      const numeric = header.classList.contains("number");
      const compare = (a, b) => {
        if (!numeric) return sign * key(a).localeCompare(key(b), "en", {numeric: true});
        const [x, y] = [number(key(a)), number(key(b))];
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
};

// --------------------------------------------------------------------------------------------------------------------
// Charts
// --------------------------------------------------------------------------------------------------------------------

const SPACE = {left: 42, right: 62, top: 26, bottom: 44};
const shortest = value => {
  const rounded = Number(value.toPrecision(3));
  return rounded && Math.abs(rounded) < 1e-3 ? rounded.toExponential() : String(rounded);
};

// Zeros at the end are kept, as in the tables: the numbers of a legend have the same precision.
const threeDigits = value => {
  const size = Math.abs(value);
  return size && size < 1e-3 ? value.toExponential(2) : size < 999.5 ? value.toPrecision(3) : shortest(value);
};

const ticks = (low, high, log, most) => {
  if (log) {
    const decades = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) decades.push(10 ** k);
    const within = factors => decades.flatMap(d => factors.map(f => f * d)).filter(x => x >= low && x <= high);
    return [[1, 2, 5], [1, 3], [1]].map(within).find(found => found.length <= most) ?? within([1]);
  }
  const step = [1, 2, 5, 10].map(f => f * 10 ** Math.floor(Math.log10((high - low) / most)))
    .find(size => (high - low) / size <= most) || 1;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
};

const scale = (low, high, from, to, log) => {
  const f = log ? Math.log : x => x;
  const place = x => from + (to - from) * (f(x) - f(low)) / (f(high) - f(low) || 1);
  return Object.assign(place, {low, high});
};

const chart = figure => {
  const data = JSON.parse(figure.querySelector("script").textContent), image = figure.querySelector("img");
  const on = new Set(data.lines.filter(line => !line.hidden).map(line => line.name));
  const plot = element("div", {class: "plot", tabindex: 0, role: "img", "aria-label": image.alt});
  const title = element("p", {class: "title"}, data.title), at = element("p", {class: "at"});
  const legend = element("div", {class: "legend"}), more = legend.cloneNode();
  const box = element("div", {class: "chart"}, title, plot, at, legend), values = [];
  const xs = [...new Set(data.lines.flatMap(line => line.x))].filter(x => !data.logX || x > 0).sort((a, b) => a - b);
  let cursor = null, width = 0, x, y;

  const nearest = (line, value) => {
    if (value > line.x.at(-1) * 1.001) return -1;
    return line.x.reduce((best, x, i) => Math.abs(x - value) < Math.abs(line.x[best] - value) ? i : best, 0);
  };

  // Only numbers and colours of our own go into the markup; names are set as text.
  const stroke = ({color, width, dashes}) =>
    `stroke="${color}" stroke-width="${width}" stroke-dasharray="${dashes.map(d => d * width).join(" ")}"`;
  const draw = () => {
    width = Math.max(plot.clientWidth, 260);
    const height = Math.round(Math.min(Math.max(0.62 * width, 270), 390));
    const shown = data.lines.filter(line => on.has(line.name));
    const ends = (shown.length ? shown : data.lines).map(line => line.x.at(-1));
    const first = data.logX ? xs[0] : 0;
    x = scale(first, Math.max(...ends), SPACE.left, width - SPACE.right, data.logX);
    y = scale(...data.yLimits, height - SPACE.bottom, SPACE.top, data.logY);
    const path = (line, values) => line.x.map((v, i) => [v, values[i]]).filter(([v]) => v >= first)
      .map(([v, loss]) => `${x(v).toFixed(1)},${y(Math.max(loss, data.logY ? 1e-12 : loss)).toFixed(1)}`);
    const grid = [
      ...ticks(x.low, x.high, data.logX, width / 70).map(v =>
        `<line x1="${x(v)}" x2="${x(v)}" y1="${SPACE.top}" y2="${height - SPACE.bottom}"/>` +
        `<text x="${x(v)}" y="${height - SPACE.bottom + 16}" text-anchor="middle">${shortest(v)}</text>`),
      ...ticks(y.low, y.high, data.logY, height / 45).map(v =>
        `<line x1="${SPACE.left}" x2="${width - SPACE.right}" y1="${y(v)}" y2="${y(v)}"/>` +
        `<text x="${SPACE.left - 6}" y="${y(v) + 4}" text-anchor="end">${shortest(v)}</text>`),
    ].join("");
    const levels = Object.values(data.levels).map(v => v >= y.low && v <= y.high ?
      `<line x1="${SPACE.left}" x2="${width - SPACE.right}" y1="${y(v)}" y2="${y(v)}"/>` : "").join("");
    const bands = shown.filter(line => line.low).map(line =>
      `<path d="M${path(line, line.low).concat(path(line, line.high).reverse()).join("L")}Z"
        fill="${line.color}" fill-opacity=".16"/>`);
    const medians = shown.map(line => `<path d="M${path(line, line.median).join("L")}" fill="none" ${stroke(line)}/>`);
    // No band lies on a line; of either kind the first is on top.
    const lines = [...bands.reverse(), ...medians.reverse()].join("");
    // A nested image clips what leaves it.
    const [w, h] = [width - SPACE.left - SPACE.right, height - SPACE.top - SPACE.bottom];
    plot.innerHTML = `<svg width="${width}" height="${height}" aria-hidden="true"><g class="grid">${grid}</g>
      <g class="levels">${levels}</g><svg class="lines" x="${SPACE.left}" y="${SPACE.top}" width="${w}" height="${h}"
      viewBox="${SPACE.left} ${SPACE.top} ${w} ${h}">${lines}</svg><g class="cursor"></g>
      <text class="x" x="${(SPACE.left + width - SPACE.right) / 2}" y="${height - 8}" text-anchor="middle"></text>
      <text class="y" x="2" y="13"></text>
      ${Object.values(data.levels).map(v => v >= y.low && v <= y.high ?
        `<text class="level" x="${width - SPACE.right + 4}" y="${y(v) + 4}"></text>` : "").join("")}</svg>`;
    const label = (kind, words, log) => { plot.querySelector(kind).textContent = words + (log ? " (log)" : ""); };
    label("text.x", data.xLabel, data.logX);
    label("text.y", data.yLabel, data.logY);
    const named = Object.entries(data.levels).filter(([, v]) => v >= y.low && v <= y.high);
    // Names of levels that lie close are moved apart, downwards.
    let below = -Infinity;
    [...plot.querySelectorAll("text.level")].map((text, i) => [text, named[i]])
      .sort(([, [, a]], [, [, b]]) => b - a).forEach(([text, [name, v]]) => {
        below = Math.max(y(v) + 4, below + 13);
        text.textContent = name;
        text.setAttribute("y", below);
      });
    point();
  };

  const point = () => {
    const mark = plot.querySelector(".cursor"), bottom = plot.firstChild.height.baseVal.value - SPACE.bottom;
    const where = cursor === null ? [] : [x(cursor)];
    mark.innerHTML = where.map(px => `<line x1="${px}" x2="${px}" y1="${SPACE.top}" y2="${bottom}"/>`).join("");
    at.textContent = cursor === null
      ? `Last value, ${data.values}; hover, or use the arrow keys, for others.`
      : `${data.values}, ${data.xLabel} ${shortest(cursor)}:`;
    data.lines.forEach((line, i) => {
      const index = cursor === null ? line.x.length - 1 : nearest(line, cursor), value = line.median[index];
      const band = line.low && index >= 0 ? ` [${threeDigits(line.low[index])}, ${threeDigits(line.high[index])}]` : "";
      values[i].textContent = index < 0 ? "ended" : threeDigits(value) + band;
      if (cursor !== null && index >= 0 && on.has(line.name) && value <= y.high && value >= y.low)
        mark.innerHTML += `<circle cx="${x(line.x[index])}" cy="${y(value)}" r="3.5" fill="${line.color}"/>`;
    });
  };

  data.lines.forEach(line => {
    const sample = element("i");
    sample.innerHTML = `<svg width="36" height="8" aria-hidden="true"><path d="M0,4L36,4" ${stroke(line)}/></svg>`;
    values.push(element("span"));
    const button = element("button", {type: "button", "aria-pressed": on.has(line.name)},
      sample, element("b", {}, line.name), values.at(-1));
    button.addEventListener("click", () => {
      on.delete(line.name) || on.add(line.name);
      button.setAttribute("aria-pressed", on.has(line.name));
      draw();
    });
    (line.hidden ? more : legend).append(button);
  });
  const {length} = more.children;
  if (length) box.append(element("details", {}, element("summary", {}, `${length} more rows to switch on`), more));
  const move = to => { cursor = to; point(); };
  plot.addEventListener("pointermove", event => {
    const px = event.clientX - plot.getBoundingClientRect().left;
    move(xs.reduce((best, v) => Math.abs(x(v) - px) < Math.abs(x(best) - px) ? v : best, xs[0]));
  });
  plot.addEventListener("pointerleave", () => move(null));
  plot.addEventListener("blur", () => move(null));
  plot.addEventListener("focus", () => { at.setAttribute("aria-live", "polite"); });
  plot.addEventListener("keydown", event => {
    const by = {ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity}[event.key];
    if (!by) return;
    event.preventDefault();
    const within = xs.filter(v => v <= x.high), now = cursor === null ? within.length : within.indexOf(cursor);
    const step = Math.max(1, Math.round(within.length / 50));
    move(within[Math.min(Math.max(now + by * step, 0), within.length - 1)]);
  });

  const swap = element("button", {type: "button", class: "swap"}, "As an image");
  swap.addEventListener("click", () => {
    swap.textContent = figure.classList.toggle("interactive") ? "As an image" : "As a chart";
    if (figure.classList.contains("interactive")) draw();
  });
  figure.querySelector(".image").after(box, swap);
  figure.classList.add("interactive");
  new ResizeObserver(() => { if (plot.clientWidth && plot.clientWidth !== width) draw(); }).observe(figure);
};

// --------------------------------------------------------------------------------------------------------------------
// Links
// --------------------------------------------------------------------------------------------------------------------

const unfold = () => {
  const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = found; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
};

document.querySelectorAll("table").forEach(sortable);
document.querySelectorAll("figure:has(script)").forEach(chart);
addEventListener("hashchange", unfold);
unfold();
