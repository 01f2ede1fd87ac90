"use strict";

// Shows the photographs with one label, or all, in an order. A label of a photograph is [class, score, doubt, chosen];
// doubt is the distance of its score from the threshold, so that the smallest is the most doubtful.
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("cards");
const figures = [...list.children];
const label = document.getElementById("label");
const order = document.getElementById("order");

function labelOf(number, place) {
  return data.labels[number].find((item) => item[0] === place);
}

data.classes.forEach((name, place) => {
  const count = figures.filter((_, number) => (labelOf(number, place) || [])[3]).length;
  if (!figures.some((_, number) => labelOf(number, place))) return;
  const option = document.createElement("option");
  option.textContent = name + " (" + count + ")";
  option.value = String(place);
  label.append(option);
});

function show() {
  const place = label.value === "" ? null : Number(label.value);
  const key = (number) => {
    if (order.value === "given") return number;
    const one = order.value === "score" ? 1 : 2;
    const values = place === null ? data.labels[number].map((item) => item[one]) : [labelOf(number, place)[one]];
    if (order.value === "doubt") return place === null ? data.doubts[number] ?? Infinity : values[0];
    return -Math.max(-1, ...values);
  };
  const shown = figures.map((_, number) => number).filter((number) => place === null || labelOf(number, place));
  shown.sort((a, b) => key(a) - key(b) || a - b);
  list.replaceChildren(...shown.map((number) => figures[number]));
  document.getElementById("count").textContent = shown.length + " photographs";
}

label.addEventListener("change", show);
order.addEventListener("change", show);
show();
