"use strict";

// Tables sort by a click on a heading: highest first, then lowest; cells without a value stay last.
function sortTable(heading) {
  const row = heading.parentElement;
  const place = [...row.children].indexOf(heading);
  const isText = heading.classList.contains("text");
  const down = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "ascending" : !isText;
  for (const other of row.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const valueOf = (line) => line.children[place].dataset.value;
  const compare = (a, b) => isText ? a.localeCompare(b) : Number(a) - Number(b);
  // greyed rows, in a second body, stay below
  for (const body of heading.closest("table").tBodies) body.append(...[...body.rows].sort((first, second) => {
    const a = valueOf(first), b = valueOf(second);
    if (a === "" || b === "") return (a === "") - (b === "");
    return down ? compare(b, a) : compare(a, b);
  }));
}

for (const heading of document.querySelectorAll(".sortable thead tr:last-child th")) {
  heading.querySelector("button").addEventListener("click", () => sortTable(heading));
}

// Tables that are wider than the screen get a hint.
function markWide() {
  for (const box of document.querySelectorAll(".scroll")) box.classList.toggle("wide", box.scrollWidth > box.clientWidth);
}
markWide();
addEventListener("resize", markWide);

function addOption(select, text, value) {
  const option = document.createElement("option");
  option.textContent = text;
  option.value = value;
  select.append(option);
}

// Tables with a filter show the rows with one value of a column.
for (const select of document.querySelectorAll("select[data-filter]")) {
  const body = select.closest(".table").querySelector("tbody");
  const valueOf = (line) => line.children[Number(select.dataset.filter)].dataset.value;
  const values = new Set([...body.rows].map(valueOf));
  for (const value of values) addOption(select, value, value);
  const show = () => { for (const line of body.rows) line.hidden = valueOf(line) !== select.value; };
  select.addEventListener("change", show);
  show();
}

// Text goes through textContent, so that a name is never taken for markup.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Photographs: right, wrong and missed labels are decided here, for any threshold.
function readPhotographs(store) {
  const data = JSON.parse(store.textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  for (const run of data.runs) {
    run.scores = new Uint16Array(bytes(run.scores).buffer);
    run.labels = bytes(run.labels);
  }
  return data;
}

// Returns what became of a label of a photograph: right, wrong, missed, unknown or "" (absent and not predicted).
function outcomeOf(run, place, column, threshold) {
  const label = run.labels[place * run.classes.length + column];
  const predicted = run.scores[place * run.classes.length + column] > threshold * 65536;
  if (label === 2) return predicted ? "unknown" : "";
  return label === 1 ? (predicted ? "right" : "missed") : predicted ? "wrong" : "";
}

const SIGNS = { right: "✓ ", wrong: "✗ ", missed: "✗ missed: ", unknown: "? " };

// All labels of a photograph under a rule, the most confident first; `own` replaces the threshold of one class.
function labelsOf(run, place, rule, own) {
  const thresholds = (run.thresholds[rule] || Object.values(run.thresholds)[0])[run.folds[place]];
  const found = run.classes.map((name, column) => {
    const threshold = own && own.column === column && own.threshold !== null ? own.threshold : thresholds[column];
    const score = run.scores[place * run.classes.length + column] / 65536;
    return { name, column, score, kind: outcomeOf(run, place, column, threshold) };
  });
  return found.filter((label) => label.kind).sort((a, b) => b.score - a.score);
}

function photographCard(data, run, place, labels, withMap) {
  const card = element("figure", "card");
  const map = withMap && run.maps[place];
  const address = map ? map[0] : data.images[run.photos[place]];
  const file = data.files[run.photos[place]];
  if (address) {
    const image = element("img", "photo");
    image.src = address;
    image.alt = file;
    card.append(image);
  } else {
    card.append(element("div", "photo gap", "no image"));
  }
  const caption = element("figcaption");
  for (const { name, kind, score } of labels) {
    const color = { right: "good", unknown: "none" }[kind] || "bad";
    const line = element("span", "label " + color, SIGNS[kind] + name + " ");
    line.append(element("span", "score", score.toFixed(2)));
    caption.append(line);
  }
  const words = [file, "loss " + (run.losses[place] === null ? "unknown" : run.losses[place].toFixed(3))];
  if (map) words.push("map of " + map[1]);
  caption.append(element("p", "name", words.join(" · ")));
  card.append(caption);
  return card;
}

function fillGallery(data, box, rule) {
  const run = data.runs.find((each) => each.name === box.dataset.run);
  const places = run ? run.galleries[box.dataset.gallery] || [] : [];
  const shown = places.slice(0, Number(box.dataset.most || places.length));
  box.replaceChildren(...shown.map((place) => photographCard(data, run, place, labelsOf(run, place, rule), true)));
}

// The photographs of one outcome of a class, the most confident first.
function outcomeGroup(data, run, rule, own, kind, title, total) {
  const shown = [];
  run.photos.forEach((_, place) => {
    const labels = labelsOf(run, place, rule, own);
    const label = labels.find((each) => each.column === own.column && each.kind === kind);
    if (label) shown.push({ place, labels: [label, ...labels.filter((each) => each !== label)], score: label.score });
  });
  shown.sort((a, b) => kind === "missed" ? a.score - b.score : b.score - a.score);
  const cards = element("div", "cards");
  cards.append(...shown.slice(0, 12).map((item) => photographCard(data, run, item.place, item.labels, false)));
  const group = element("div", "error-group");
  group.append(element("h4", "", title + " (" + total + (total > cards.children.length ? ", " + cards.children.length + " shown" : "") + ")"));
  group.append(total ? cards : element("p", "none", "none"));
  return group;
}

function showClass(data, list, run, rule, own) {
  const counts = run.counts[rule] || Object.values(run.counts)[0];
  const step = own.threshold === null ? null : Math.round(own.threshold * 100) - 1;
  const [right, wrong] = ["tp", "fp"].map((key) => step === null ? counts[key][own.column] : run.steps[key][own.column][step]);
  const positives = run.positives[own.column], missed = positives - right;
  const share = (part, whole) => whole ? (part / whole).toFixed(3) : "undefined";
  const words = "precision " + share(right, right + wrong) + " (" + right + " of " + (right + wrong) + " predicted), recall " +
    share(right, positives) + " (" + right + " of " + positives + ")";
  list.replaceChildren(element("p", "measured", words));
  const name = run.classes[own.column];
  const confused = Object.hasOwn(counts.confused, name) ? counts.confused[name] : [];
  if (confused.length && own.threshold === null) {
    const others = confused.map(([other, images]) => other + " (" + images + ")").join(", ");
    list.append(element("p", "rule", "Predicted in its place on images where it is missed: " + others));
  }
  list.append(outcomeGroup(data, run, rule, own, "wrong", "False positives", wrong));
  list.append(outcomeGroup(data, run, rule, own, "missed", "False negatives", missed));
  list.append(outcomeGroup(data, run, rule, own, "right", "True positives", right));
}

const store = document.getElementById("photograph-data");
if (store) {
  const data = readPhotographs(store);
  const [classes, runs, slider, shown, list] =
    ["error-class", "error-run", "threshold", "threshold-value", "error-list"].map((id) => document.getElementById(id));
  const rules = document.querySelectorAll("select[data-rule]");
  let own = { column: 0, threshold: null };
  const run = () => data.runs[Number(runs.value)];
  const rule = () => rules[0].value;
  const draw = () => {
    own.column = Math.max(0, run().classes.indexOf(classes.value));
    const thresholds = (run().thresholds[rule()] || Object.values(run().thresholds)[0]).map((each) => each[own.column]);
    const [low, high] = [Math.min(...thresholds), Math.max(...thresholds)];
    if (own.threshold === null) slider.value = Math.round(50 * (low + high));
    const text = low === high ? low.toFixed(3) : low.toFixed(3) + " to " + high.toFixed(3) + " by fold";
    shown.textContent = own.threshold === null ? text : own.threshold.toFixed(2);
    showClass(data, list, run(), rule(), own);
  };
  const reset = () => { own.threshold = null; draw(); };
  const listClasses = () => {
    const former = classes.value, counts = Object.values(run().counts)[0];
    classes.replaceChildren();
    run().classes.forEach((name, column) =>
      addOption(classes, name + " (" + (counts.fp[column] + counts.fn[column]) + ")", name));
    classes.value = run().classes.includes(former) ? former : run().classes[0];
  };
  const open = (place, name) => {
    runs.value = String(place);
    listClasses();
    if (run().classes.includes(name)) classes.value = name;
    reset();
  };
  data.runs.forEach((each, place) => addOption(runs, each.name, String(place)));
  const fill = () => document.querySelectorAll("[data-gallery]").forEach((box) => fillGallery(data, box, rule()));
  rules.forEach((select) => select.addEventListener("change", () => {
    rules.forEach((other) => { other.value = select.value; });
    fill();
    reset();
  }));
  classes.addEventListener("change", reset);
  runs.addEventListener("change", () => open(Number(runs.value), classes.value));
  slider.addEventListener("input", () => { own.threshold = slider.value / 100; draw(); });
  if (data.runs.length) {
    open(data.start.run, data.start.class);
    fill();
  }
  // Numbers of the table of classes lead to the photographs.
  for (const line of document.querySelectorAll("#table-classes tbody tr, #table-weakest tbody tr")) {
    for (const cell of line.querySelectorAll("td:not(.text)")) {
      const heading = cell.closest("table").tHead.lastElementChild.children[cell.cellIndex].textContent;
      const place = data.runs.findIndex((each) => each.name === heading);
      if (cell.dataset.value === "" || !data.runs.length) continue;
      const link = element("a", "number");
      link.href = "#errors";
      link.append(...cell.childNodes);
      link.addEventListener("click", () => open(place < 0 ? data.start.run : place, line.cells[0].dataset.value));
      cell.append(link);
    }
  }
}

// Figures show the value of the nearest point under the pointer, or of the next one with the arrow keys.
const tip = element("div", "tip");
tip.hidden = true;
document.body.append(tip);

function pointsOf(group) {
  const points = [];
  for (const path of group.querySelectorAll(":scope > path, :scope > g > path")) {
    for (const [, x, y] of path.getAttribute("d").matchAll(/(-?[\d.]+) (-?[\d.]+)/g)) points.push([Number(x), Number(y)]);
  }
  const marks = [...group.querySelectorAll("use")].map((use) => [Number(use.getAttribute("x")), Number(use.getAttribute("y"))]);
  return marks.length ? marks : points;
}

// All points of a figure: their place in it, the text to show, and their panel.
function readFigure(svg) {
  const found = [];
  for (const panel of svg.querySelectorAll("[data-axes]")) {
    const axes = JSON.parse(panel.dataset.axes);
    for (const group of panel.querySelectorAll("[data-series], [data-note]")) {
      const [name, ...names] = JSON.parse(group.dataset.series || group.dataset.note);
      pointsOf(group).forEach((point, place) => {
        const values = () => names[place] ? names[place] + "\n" + coordinates(axes, point) : coordinates(axes, point);
        found.push({ group, point, text: () => group.dataset.note ? name : name + "\n" + values() });
      });
    }
    (axes.cells || []).forEach((row, line) => row.forEach((value, column) => {
      if (value !== null) {
        const text = axes.y.names[line] + " with " + axes.x.names[column] + ": " + value;
        found.push({ point: placeOf(axes, column, line), text: () => text });
      }
    }));
  }
  return found;
}

function placeOf({ box: [left, top, width, height], x, y }, column, line) {
  return [left + width * (column - x.low) / (x.high - x.low), top + height * (y.high - line) / (y.high - y.low)];
}

function coordinates({ box: [left, top, width, height], x, y }, [across, down]) {
  const value = (axis, share) => {
    const [low, high] = axis.log ? [Math.log10(axis.low), Math.log10(axis.high)] : [axis.low, axis.high];
    const found = low + share * (high - low);
    if (axis.names) return axis.names[Math.round(found)];
    const plain = axis.log ? 10 ** found : found;
    return (axis.label ? axis.label + " " : "") + Number(plain.toFixed(Math.abs(plain) < 10 ? 3 : Math.abs(plain) < 1000 ? 1 : 0));
  };
  return value(x, (across - left) / width) + "\n" + value(y, 1 - (down - top) / height);
}

for (const svg of document.querySelectorAll("svg.plot")) {
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
  svg.addEventListener("pointermove", find);
  svg.addEventListener("pointerdown", find);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    points ||= readFigure(svg);
    if (!step || !points.length) return;
    event.preventDefault();
    show((current + step + points.length) % points.length);
  });
}
