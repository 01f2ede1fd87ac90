"use strict";

// Shows the photographs with one label, or all, in an order. A label of a photograph is [class, score, doubt, chosen];
// doubt is the distance of its score from the threshold, so that the smallest is the most doubtful.
const [list, label, order, count] = ["cards", "label", "order", "count"].map((id) => document.getElementById(id));
const cards = [...list.children].map((figure, given) => ({
  figure, given, labels: JSON.parse(figure.dataset.labels), doubt: figure.dataset.doubt === "None" ? Infinity : Number(figure.dataset.doubt),
}));
const find = (card, place) => card.labels.find((item) => item[0] === place);

JSON.parse(document.getElementById("classes").textContent).forEach((name, place) => {
  const found = cards.map((card) => find(card, place)).filter(Boolean);
  const text = name + " (" + found.filter((item) => item[3]).length + ")";
  if (found.length) label.append(Object.assign(document.createElement("option"), { textContent: text, value: place }));
});

function show() {
  const place = label.value === "" ? null : Number(label.value);
  const shown = cards.filter((card) => place === null || find(card, place));
  const keys = {
    given: (card) => card.given,
    score: (card) => -Math.max(-1, ...(place === null ? card.labels : [find(card, place)]).map((item) => item[1])),
    doubt: (card) => place === null ? card.doubt : find(card, place)[2],
  };
  const key = keys[order.value];
  // Infinity minus itself is not a number, so that such cards keep their order
  shown.sort((a, b) => (key(a) - key(b)) || a.given - b.given);
  list.replaceChildren(...shown.map((card) => card.figure));
  count.textContent = shown.length + " photographs";
}

label.addEventListener("change", show);
order.addEventListener("change", show);
show();
