// The development set as a map: pooled vectors on the two directions in which they differ most.
import type { App } from "./app.ts";
import { h, percent, section, styled, toggle } from "./dom.ts";
import * as measures from "./measures.ts";
import { COLOURS } from "./overview.ts";

const SIZE = 1000;
const MARGIN = 30;
let colouredBy: "label" | "mistakes" = "label";

export function map(app: App): HTMLElement {
  const { rows, view } = app;
  if (!rows || !view) return section("map", "Map", h("p", { class: "note" }, "No rows are in this page."));
  const canvas = h("canvas", { class: "map", width: SIZE, height: SIZE * 0.62, role: "img",
    "aria-label": `map of ${rows.ids.length} rows, coloured by ${colouredBy}; the table below lists the same rows` });
  const note = h("p", { class: "tipline", role: "status" }, "Point at a dot to read its row; click to look into it.");
  const legend = h("ul", { class: "legend" });
  const [xs, ys] = rows.map;
  const place = (row: number): [number, number] => [MARGIN + (xs[row] / SIZE) * (canvas.width - 2 * MARGIN), canvas.height - MARGIN - (ys[row] / SIZE) * (canvas.height - 2 * MARGIN)];
  const [kinds, kindOf] = colouring(app);
  legend.append(...kinds.map((name, n) => h("li", {}, styled(h("span", { class: "swatch" }), { "--ink": COLOURS[n % COLOURS.length] }), name)));

  const draw = () => {
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const size = rows.ids.length > 3000 ? 3 : 5;
    const dot = (row: number, alpha: number, radius = size) => {
      const [x, y] = place(row), kind = kindOf(row);
      pen.globalAlpha = alpha;
      pen.fillStyle = COLOURS[kind % COLOURS.length];
      pen.beginPath();
      // The second kind, mistakes, is a square: a colour alone says nothing to some eyes.
      if (colouredBy === "mistakes" && kind === 1) pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else pen.arc(x, y, radius, 0, 7);
      pen.fill();
    };
    rows.ids.forEach((_, row) => { if (!app.passes(row)) dot(row, 0.08); });
    rows.ids.forEach((_, row) => { if (app.passes(row)) dot(row, 0.75); });
    if (app.row !== null) {
      dot(app.row, 1, 9);
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.lineWidth = 3;
      pen.stroke();
    }
  };
  const nearest = (event: MouseEvent): number | null => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
    let best: number | null = null, least = 25 ** 2;
    rows.ids.forEach((_, row) => {
      if (!app.passes(row)) return;
      const [a, b] = place(row), distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least) [best, least] = [row, distance];
    });
    return best;
  };
  canvas.addEventListener("pointermove", (event) => {
    const row = nearest(event);
    note.textContent = row === null ? "Point at a dot to read its row; click to look into it." : said(app, row);
  });
  canvas.addEventListener("click", (event) => {
    const row = nearest(event);
    if (row !== null) app.open(row);
  });
  draw();
  const by = (["label", "mistakes"] as const).map((way) => toggle(colouredBy === way, { "data-key": `colour ${way}`, click: () => { colouredBy = way; app.redraw("map"); } }, `by ${way === "label" ? "label" : "error"}`));
  const [first, second] = rows.explained;
  return section("map", "Map", h("p", { class: "controls" }, ...by), note, canvas, legend,
    h("p", { class: "note" }, `Pooled vectors on their first two principal components, which hold ${percent(first)} and ${percent(second)} of their variance.`));
}

/** What the colours stand for, and which of them a row has. */
function colouring(app: App): [string[], (row: number) => number] {
  const { rows, view } = app;
  if (!rows || !view) return [[], () => 0];
  const of = rows.labels ?? rows.answers;
  if (colouredBy === "mistakes") {
    if (view.kind !== "regression") return [["right", "wrong"], (row) => measures.off(rows, view, row)];
    const limit = (view.range[1] - view.range[0]) / 5;
    return [[`within ${limit}`, "further off"], (row) => Number(measures.off(rows, view, row) > limit)];
  }
  if (view.kind === "regression") {
    const [low, high] = view.range, width = (high - low) / 5;
    const names = [0, 1, 2, 3, 4].map((n) => `${+(low + n * width).toFixed(2)} to ${+(low + (n + 1) * width).toFixed(2)}`);
    return [names, (row) => Math.min(4, Math.max(0, Math.floor(((of[row] as number) - low) / width)))];
  }
  if (view.kind === "labels") return [[...view.classes, "none"], (row) => (of[row] as number[])[0] ?? view.classes.length];
  return [view.classes, (row) => of[row] as number];
}

function said(app: App, row: number): string {
  const { rows, view } = app;
  if (!rows || !view) return "";
  const label = rows.labels ? `label ${measures.named(view, rows.labels[row])}, ` : "";
  return `${rows.texts.map((column) => column[row]).join(" | ")} (${label}answer ${measures.named(view, rows.answers[row])})`;
}
