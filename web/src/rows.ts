// The table of rows: filtered, searched, sorted, a leaf at a time.
import type { App, Column } from "./app.ts";
import { h, percent, plain, section, toggle } from "./dom.ts";
import * as measures from "./measures.ts";

const LEAF = 25;

/** The rows that pass filters and search, in the chosen order. */
export function chosen(app: App): number[] {
  const { rows, view } = app;
  if (!rows || !view) return [];
  const words = app.search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.ids.map((_, row) => row).filter((row) => app.passes(row) && measures.matches(rows, row, words));
  const keys: Record<Column, (row: number) => number | string> = {
    wrong: (row) => measures.wrongness(rows, view, row),
    id: (row) => rows.ids[row],
    text: (row) => rows.texts[0][row],
    label: (row) => key(rows.labels?.[row] ?? 0),
    answer: (row) => key(rows.answers[row]),
    sure: (row) => measures.confidence(rows, view, row),
    tokens: (row) => rows.tokens[row],
  };
  const order = keys[app.sort];
  const keyed = found.map((row) => [order(row), row] as const);
  keyed.sort(([a, m], [b, n]) => {
    const less = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return (app.down ? -less : less) || m - n;
  });
  return keyed.map(([, row]) => row);
}

function key(value: number | number[]): number | string {
  return Array.isArray(value) ? value.join(" ") : value;
}

export function rows(app: App): HTMLElement {
  const { rows: all, view } = app;
  if (!all || !view) return section("rows", "Rows", h("p", { class: "note" }, "No rows are in this page: minbert show was asked for none, or this is a pre-training run."));
  const search = h("input", { type: "search", value: app.search, "aria-label": "search in the texts", placeholder: "search in the texts", "data-key": "search",
    input: (event: Event) => {
      app.search = (event.target as HTMLInputElement).value;
      app.leaf = 0;
      app.redraw("table");
    } });
  return section("rows", "Rows", h("p", { class: "controls" }, search, ...app.filters.map((filter) =>
    toggle(true, { class: "chip", "aria-label": `filter ${filter.label}: remove`, click: () => app.filter(filter.kind, filter.label, []) }, `${filter.label} ×`)),
  app.filters.length || app.search ? h("button", { type: "button", click: () => app.unfilter() }, "All rows") : null),
  app.region("table", () => table(app)));
}

function table(app: App): HTMLElement {
  const { rows: all, view } = app;
  if (!all || !view) return h("div");
  const found = chosen(app);
  const leaves = Math.max(1, Math.ceil(found.length / LEAF));
  app.leaf = Math.min(app.leaf, leaves - 1);
  const shown = found.slice(app.leaf * LEAF, (app.leaf + 1) * LEAF);
  const regression = view.kind === "regression";
  const columns: [Column, string][] = [["wrong", regression ? "distance" : "right"], ["text", view.pair ? "texts" : "text"], ["label", "label"], ["answer", "answer"],
    ...(all.chances ? [["sure", "probability"] as [Column, string]] : []), ["tokens", "tokens"], ["id", "id"]];
  const head = h("tr", {}, columns.map(([column, name]) => h("th", { scope: "col", "aria-sort": app.sort === column ? (app.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", "data-key": `sort ${column}`, click: () => {
      app.down = app.sort === column ? !app.down : column === "wrong" || column === "tokens" || column === "sure";
      app.sort = column;
      app.redraw("table");
    } }, name, app.sort === column ? (app.down ? " ▾" : " ▴") : ""))));
  const body = shown.map((row) => {
    const off = measures.off(all, view, row);
    const looked = app.explained(row) || app.page.live;
    const cells: Record<string, Node | string> = {
      wrong: all.labels ? (regression ? off.toFixed(3) : off ? "✗" : "✓") : "",
      text: h("button", { type: "button", class: "text", "data-key": `row ${row}`, "aria-label": `look into row ${all.ids[row]}`, "aria-pressed": String(app.row === row), click: () => app.open(row) },
        ...all.texts.map((column) => h("span", {}, column[row])), looked ? h("small", {}, "inside") : null),
      label: all.labels ? measures.named(view, all.labels[row]) : "-",
      answer: measures.named(view, all.answers[row]),
      sure: percent(measures.confidence(all, view, row)),
      tokens: String(all.tokens[row]),
      id: all.ids[row],
    };
    return h("tr", { class: off && !regression ? "off" : "", "data-row": row }, columns.map(([column]) => h("td", { class: `cell-${column}` }, cells[column])));
  });
  const turn = (by: number) => () => { app.leaf += by; app.redraw("table"); };
  return h("div", { id: "table" }, h("p", { class: "note", role: "status" }, `${plain(found.length)} of ${plain(all.ids.length)} rows`),
    h("div", { class: "scroll" }, h("table", { class: "rows" }, h("thead", {}, head), h("tbody", {}, body))),
    h("p", { class: "controls" }, h("button", { type: "button", disabled: app.leaf === 0, "data-key": "back", click: turn(-1) }, "← back"),
      ` ${app.leaf + 1} of ${leaves} `, h("button", { type: "button", disabled: app.leaf + 1 >= leaves, "data-key": "on", click: turn(1) }, "on →")));
}
