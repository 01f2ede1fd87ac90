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

// The errors of a class. All text goes through textContent, so that a name is never taken for markup.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function errorCard(data, item, name) {
  const card = element("figure", "card");
  if (item.image === null) {
    card.append(element("div", "photo gap", "no image"));
  } else {
    const image = element("img", "photo");
    image.src = data.images[item.image];
    image.alt = item.file;
    card.append(image);
  }
  const caption = element("figcaption");
  const wrong = (item.positive ? "✗ " : "✗ missed: ") + name + " " + item.score.toFixed(2);
  caption.append(element("p", "labels bad", wrong));
  caption.append(element("p", "labels", "true: " + (item.true.join(", ") || "none")));
  caption.append(element("p", "name", item.file + " · " + data.runs[item.run]));
  card.append(caption);
  return card;
}

function errorGroup(data, items, name, title) {
  const group = element("div", "error-group");
  group.append(element("h4", "", title + " (" + items.length + ")"));
  const cards = element("div", "cards");
  for (const item of items) cards.append(errorCard(data, item, name));
  group.append(items.length ? cards : element("p", "none", "none"));
  return group;
}

function showErrors(data, list, name, run) {
  const own = (items) => (items || []).filter((item) => run === "" || item.run === Number(run));
  const errors = own(Object.hasOwn(data.errors, name) ? data.errors[name] : []);
  const confused = own(Object.hasOwn(data.confused, name) ? data.confused[name] : []);
  list.replaceChildren();
  if (confused.length) {
    const words = confused.map((item) =>
      item.with + " (" + item.images + (run === "" ? ", " + data.runs[item.run] : "") + ")");
    list.append(element("p", "rule", "Predicted in its place on images where it is missed: " + words.join("; ")));
  }
  list.append(errorGroup(data, errors.filter((item) => item.positive), name, "False positives"));
  list.append(errorGroup(data, errors.filter((item) => !item.positive), name, "False negatives"));
}

const errorClass = document.getElementById("error-class");
if (errorClass) {
  const data = JSON.parse(document.getElementById("error-data").textContent);
  const errorRun = document.getElementById("error-run");
  const list = document.getElementById("error-list");
  const count = (name) => Object.hasOwn(data.errors, name) ? data.errors[name].length : 0;
  for (const name of data.classes) addOption(errorClass, name + " (" + count(name) + ")", name);
  addOption(errorRun, "all", "");
  data.runs.forEach((name, place) => addOption(errorRun, name, String(place)));
  if (data.runs.length) errorRun.value = "0";
  const show = () => showErrors(data, list, errorClass.value, errorRun.value);
  errorClass.addEventListener("change", show);
  errorRun.addEventListener("change", show);
  show();
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
        found.push({ point, text: () => group.dataset.note ? name : name + "\n" + values() });
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
    let nearest = -1, least = 24 ** 2;
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
