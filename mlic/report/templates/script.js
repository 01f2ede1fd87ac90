"use strict";

// Tables sort by a click on a heading: highest first, then lowest; cells without a value stay last.
function sortTable(heading) {
  const row = heading.parentElement;
  const place = [...row.children].indexOf(heading);
  const isText = heading.classList.contains("text");
  const down = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "ascending" : !isText;
  for (const other of row.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = heading.closest("table").tBodies[0];
  const valueOf = (line) => line.children[place].dataset.value;
  const compare = (a, b) => isText ? a.localeCompare(b) : Number(a) - Number(b);
  const lines = [...body.rows].sort((first, second) => {
    const a = valueOf(first), b = valueOf(second);
    if (a === "" || b === "") return (a === "") - (b === "");
    return down ? compare(b, a) : compare(a, b);
  });
  body.append(...lines);
}

for (const heading of document.querySelectorAll(".sortable thead tr:last-child th")) {
  heading.querySelector("button").addEventListener("click", () => sortTable(heading));
}

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
