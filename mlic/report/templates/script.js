"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Text goes through textContent, so that a name is never taken for markup.
function element(tag, className = "", text = "", ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  made.append(...children);
  return made;
}

function addOption(select, text, value = text) {
  select.append(Object.assign(element("option", "", text), { value }));
}

const valueIn = (line, place) => line.cells[place].dataset.value;

// Tables sort by a click on a heading: highest first, then lowest; cells without a value stay last.
function sortTable(heading) {
  const place = heading.cellIndex, isText = heading.classList.contains("text");
  const down = heading.ariaSort ? heading.ariaSort === "ascending" : !isText;
  for (const other of heading.parentElement.cells) other.ariaSort = null;
  heading.ariaSort = down ? "descending" : "ascending";
  const compare = (a, b) => (down ? -1 : 1) * (isText ? a.localeCompare(b) : a - b);
  // greyed rows, in a second body, stay below
  for (const body of heading.closest("table").tBodies) body.append(...[...body.rows].sort((first, second) => {
    const [a, b] = [valueIn(first, place), valueIn(second, place)];
    return (a === "") - (b === "") || compare(a, b);
  }));
}
for (const button of all(".sortable th button")) button.addEventListener("click", () => sortTable(button.parentElement));

// Tables with a filter show the rows with one value of a column.
for (const select of all("select[data-filter]")) {
  const rows = all("tbody tr", select.closest(".table")), place = Number(select.dataset.filter);
  for (const value of new Set(rows.map((line) => valueIn(line, place)))) addOption(select, value);
  const show = () => rows.forEach((line) => { line.hidden = valueIn(line, place) !== select.value; });
  select.addEventListener("change", show);
  show();
}

// Tables that are wider than the screen get a hint.
const markWide = () => all(".scroll").forEach((box) => box.classList.toggle("wide", box.scrollWidth > box.clientWidth));
addEventListener("resize", markWide);
markWide();

// Photographs: right, wrong and missed labels are decided here, for any threshold.
const KINDS = {
  right: { sign: "✓ ", style: "good" }, wrong: { sign: "✗ ", style: "bad" },
  missed: { sign: "✗ missed: ", style: "bad" }, unknown: { sign: "? ", style: "none" },
};

// What became of a label (0, 1 or 2, unknown): a key of KINDS, or undefined if it is absent and not predicted.
function kindOf(label, predicted) {
  return label === 1 ? (predicted ? "right" : "missed") : predicted ? ["wrong", , "unknown"][label] : undefined;
}

const thresholdsOf = (run, rule) => run.thresholds[rule] || Object.values(run.thresholds)[0];

// All labels of a photograph under a rule, the most confident first; `own` replaces the threshold of one class.
function labelsOf(run, place, rule, own = {}) {
  const thresholds = thresholdsOf(run, rule)[run.folds[place]];
  const labels = run.classes.map((name, column) => {
    const threshold = (own.column === column ? own.threshold : null) ?? thresholds[column];
    const at = place * run.classes.length + column;
    return { name, column, score: run.scores[at] / 65536, kind: kindOf(run.labels[at], run.scores[at] > threshold * 65536) };
  });
  return labels.filter((label) => label.kind).sort((a, b) => b.score - a.score);
}

function photographCard(data, run, place, labels, map) {
  const file = data.files[run.photos[place]], address = map ? map[0] : data.images[run.photos[place]];
  const image = address ? Object.assign(element("img", "photo"), { src: address, alt: file }) : element("div", "photo gap", "no image");
  const lines = labels.map(({ name, kind, score }) => element(
    "span", "label " + KINDS[kind].style, KINDS[kind].sign + name + " ", element("span", "score", score.toFixed(2))));
  const words = [file, "loss " + (run.losses[place]?.toFixed(3) ?? "unknown"), ...(map ? ["map of " + map[1]] : [])];
  return element("figure", "card", "", image, element("figcaption", "", "", ...lines, element("p", "name", words.join(" · "))));
}

// The photographs of one outcome of a class, the most confident first.
function outcomeGroup(data, run, rule, own, kind, title, total) {
  const found = run.photos.map((_, place) => ({ place, labels: labelsOf(run, place, rule, own) }));
  for (const item of found) item.own = item.labels.find((label) => label.column === own.column && label.kind === kind);
  const shown = found.filter((item) => item.own).sort((a, b) => (kind === "missed" ? 1 : -1) * (a.own.score - b.own.score));
  const cards = shown.slice(0, 12).map(({ place, labels, own }) =>
    photographCard(data, run, place, [own, ...labels.filter((label) => label !== own)]));
  const heading = title + " (" + total + (total > cards.length ? ", " + cards.length + " shown" : "") + ")";
  return element("div", "error-group", "", element("h4", "", heading), total ? element("div", "cards", "", ...cards) : element("p", "none", "none"));
}

function showPhotographs(data) {
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  for (const run of data.runs) Object.assign(run, { scores: new Uint16Array(bytes(run.scores).buffer), labels: bytes(run.labels) });
  const [classes, runs, slider, shown, list] =
    ["error-class", "error-run", "threshold", "threshold-value", "error-list"].map((id) => document.getElementById(id));
  const rules = all("select[data-rule]");
  const own = { column: 0, threshold: null };
  const current = () => data.runs[runs.value], rule = () => rules[0].value;

  const draw = () => {
    const run = current();
    own.column = run.classes.indexOf(classes.value);
    const limits = thresholdsOf(run, rule()).map((each) => each[own.column]);
    const [low, high] = [Math.min(...limits), Math.max(...limits)];
    if (own.threshold === null) slider.value = Math.round(50 * (low + high));
    const text = low === high ? low.toFixed(3) : low.toFixed(3) + " to " + high.toFixed(3) + " by fold";
    shown.textContent = own.threshold?.toFixed(2) ?? text;
    const counts = own.threshold === null ? run.counts[rule()] || Object.values(run.counts)[0] : run.steps[slider.value - 1];
    const [right, wrong, positives] = [counts.tp, counts.fp, run.positives].map((each) => each[own.column]);
    const share = (word, whole) => `${word} ${whole ? (right / whole).toFixed(3) : "undefined"} (${right} of ${whole})`;
    list.replaceChildren(
      element("p", "measured", share("precision", right + wrong) + ", " + share("recall", positives)),
      ...[["wrong", "False positives", wrong], ["missed", "False negatives", positives - right], ["right", "True positives", right]]
        .map((group) => outcomeGroup(data, run, rule(), own, ...group)));
  };
  const reset = () => { own.threshold = null; draw(); };
  const open = (place, name) => {
    runs.value = place;
    const run = current(), counts = Object.values(run.counts)[0];
    classes.replaceChildren();
    run.classes.forEach((each, column) =>
      addOption(classes, `${each} (${counts.fp[column] + run.positives[column] - counts.tp[column]})`, each));
    classes.value = run.classes.includes(name) ? name : run.classes[0];
    reset();
  };
  const fill = () => all("[data-gallery]").forEach((box) => {
    const run = data.runs.find((each) => each.name === box.dataset.run);
    const places = (run ? run.galleries[box.dataset.gallery] : []).slice(0, box.dataset.most);
    box.replaceChildren(...places.map((place) => photographCard(data, run, place, labelsOf(run, place, rule()), run.maps[place])));
  });
  data.runs.forEach((run, place) => addOption(runs, run.name, place));
  for (const select of rules) select.addEventListener("change", () => {
    for (const other of rules) other.value = select.value;
    fill();
    reset();
  });
  classes.addEventListener("change", reset);
  runs.addEventListener("change", () => open(runs.value, classes.value));
  slider.addEventListener("input", () => { own.threshold = slider.value / 100; draw(); });
  open(data.start.run, data.start.class);
  fill();
  // Numbers of the tables of classes lead to the photographs.
  for (const cell of all("#table-classes tbody td:not(.text), #table-weakest tbody td:not(.text)")) {
    if (cell.dataset.value === "") continue;
    const heading = cell.closest("table").tHead.lastElementChild.cells[cell.cellIndex].textContent;
    const place = data.runs.findIndex((run) => run.name === heading);
    const link = Object.assign(element("a", "number", "", ...cell.childNodes), { href: "#errors" });
    link.addEventListener("click", () => open(place < 0 ? data.start.run : place, valueIn(cell.parentElement, 0)));
    cell.append(link);
  }
}

const data = JSON.parse(document.getElementById("photograph-data")?.textContent || '{"runs": []}');
if (data.runs.length) showPhotographs(data);

// Figures show the value of the nearest point under the pointer, or of the next one with the arrow keys.
const tip = element("div", "tip");
tip.hidden = true;
document.body.append(tip);

// The points that a group of a figure draws: its markers, else the corners of its paths.
function pointsOf(group) {
  const marks = all("use", group).map((use) => [Number(use.getAttribute("x")), Number(use.getAttribute("y"))]);
  const corners = all(":scope > path, :scope > g > path", group)
    .flatMap((path) => [...path.getAttribute("d").matchAll(/(-?[\d.]+) (-?[\d.]+)/g)]);
  return marks.length ? marks : corners.map(([, x, y]) => [Number(x), Number(y)]);
}

// The text of a place that is a share of the length of an axis.
function valueAt(axis, share) {
  const [low, high] = axis.log ? [Math.log10(axis.low), Math.log10(axis.high)] : [axis.low, axis.high];
  const found = low + share * (high - low);
  if (axis.names) return axis.names[Math.round(found)];
  const plain = axis.log ? 10 ** found : found;
  return (axis.label ? axis.label + " " : "") + Number(plain.toFixed(Math.abs(plain) < 10 ? 3 : Math.abs(plain) < 1000 ? 1 : 0));
}

// All points of a figure: their place in it, the text to show, and their group.
function readFigure(svg) {
  const found = [];
  for (const panel of all("[data-axes]", svg)) {
    const { box: [left, top, width, height], x, y, cells = [] } = JSON.parse(panel.dataset.axes);
    for (const group of all("[data-series], [data-note]", panel)) {
      const [name, ...names] = JSON.parse(group.dataset.series || group.dataset.note);
      pointsOf(group).forEach(([across, down], place) => {
        const text = () => [name, ...(names[place] ? [names[place]] : []),
          valueAt(x, (across - left) / width), valueAt(y, 1 - (down - top) / height)].join("\n");
        found.push({ group, point: [across, down], text: group.dataset.note ? () => name : text });
      });
    }
    cells.forEach((row, line) => row.forEach((value, column) => {
      const point = [left + width * (column - x.low) / (x.high - x.low), top + height * (y.high - line) / (y.high - y.low)];
      if (value !== null) found.push({ point, text: () => `${y.names[line]} with ${x.names[column]}: ${value}` });
    }));
  }
  return found;
}

for (const svg of all("svg.plot")) {
  let points = null, current = -1;
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("r", "4");
  const hide = () => { tip.hidden = true; dot.remove(); };
  const show = (place) => {
    current = place;
    const { point: [x, y], text } = points[place];
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    svg.append(dot);
    tip.textContent = text();
    tip.hidden = false;
    const at = dot.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(at.left + 14, innerWidth - tip.offsetWidth - 8)) + scrollX + "px";
    tip.style.top = Math.max(4, at.top - tip.offsetHeight - 6) + scrollY + "px";
  };
  const find = (event) => {
    points ||= readFigure(svg);
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const bar = event.target.closest("[data-note]");
    let nearest = bar ? points.findIndex((each) => each.group === bar) : -1, least = nearest < 0 ? 24 ** 2 : 0;
    points.forEach(({ point: [x, y] }, place) => {
      const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
      if (distance < least) [nearest, least] = [place, distance];
    });
    if (nearest < 0) hide(); else show(nearest);
  };
  for (const name of ["pointermove", "pointerdown"]) svg.addEventListener(name, find);
  for (const name of ["pointerleave", "blur"]) svg.addEventListener(name, hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    points ||= readFigure(svg);
    if (!step || !points.length) return;
    event.preventDefault();
    show((current + step + points.length) % points.length);
  });
}
