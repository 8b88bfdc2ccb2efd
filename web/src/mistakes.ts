// Where a run is wrong: each cell and bar is a filter of the rows.
import type { App } from "./app.ts";
import { h, percent, plain, section, styled, three } from "./dom.ts";
import * as measures from "./measures.ts";

export function mistakes(app: App): HTMLElement {
  const { rows, view } = app;
  if (!view || !rows) return section("mistakes", "Where it is wrong", h("p", { class: "note" }, "No rows are in this page."));
  if (!rows.labels) return section("mistakes", "Where it is wrong", h("p", {}, "These rows have no labels."));
  const parts: HTMLElement[] = [];
  if (view.kind === "labels") parts.push(decisions(app));
  else if (view.kind === "regression")
    parts.push(bars(app, "deviation", "Answer - label", measures.byDeviation(rows, view), "rows"));
  else parts.push(confusion(app));
  if (rows.chances) {
    const groups = measures.calibration(rows, view);
    const error = view.kind === "labels" ? "" : `; expected error ${measures.calibrationError(groups).toFixed(4)}`;
    const title = view.kind === "labels" ? "By its least sure decision" : "Calibration";
    parts.push(bars(app, "calibration", title, groups.filter((each) => each.rows.length), "share", `probability of the answer; bar: share right, mark: mean probability${error}`));
  }
  const word = view.kind === "regression" ? "distance" : "share";
  const said = view.kind === "regression" ? "bar: mean distance of answer and label" : "bar: share answered right";
  parts.push(bars(app, "label", "By label", measures.byLabel(rows, view), word, said));
  parts.push(bars(app, "length", "By length in tokens", measures.byLength(rows, view), word, said));
  const part = rows.answers.length < rows.all ? ` ${plain(rows.answers.length)} of ${plain(rows.all)} rows, at equal distances.` : "";
  return section("mistakes", "Where it is wrong",
    h("p", { class: "note" }, `${view.title}. Each cell and bar chooses rows for the table below.${part}`),
    h("div", { class: "panels" }, parts));
}

function confusion(app: App): HTMLElement {
  const { rows, view } = app;
  if (!rows || !view) return h("div");
  const table = measures.confusion(rows, view.classes.length);
  const cells = table.map((line, label) => h("tr", {}, h("th", { scope: "row" }, view.classes[label]),
    line.map((count, answer) => {
      const name = `label ${view.classes[label]}, answer ${view.classes[answer]}`;
      const members = rows.answers.flatMap((value, row) => value === answer && rows.labels?.[row] === label ? [row] : []);
      const share = count / Math.max(1, line.reduce((a, b) => a + b, 0));
      return h("td", {}, cell(app, "cell", name, members, share, label === answer));
    })));
  return panel("confusion", "Confusion", "rows by label and answer; shade: share of the label's rows", h("div", { class: "scroll" },
    h("table", { class: "matrix" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "label ↓ answer →"), view.classes.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, cells))));
}

function decisions(app: App): HTMLElement {
  const { rows, view } = app;
  if (!rows || !view) return h("div");
  const table = measures.decisions(rows, view.classes.length);
  const kinds = [["rightly yes", 1, 1], ["wrongly yes", 0, 1], ["wrongly no", 1, 0], ["rightly no", 0, 0]] as const;
  const lines = view.classes.map((name, label) => h("tr", {}, h("th", { scope: "row" }, name), kinds.map(([said, is, answered]) => {
    const has = (value: unknown) => Number((value as number[]).includes(label));
    const members = rows.answers.flatMap((value, row) => has(value) === answered && has(rows.labels?.[row]) === is ? [row] : []);
    return h("td", {}, cell(app, "cell", `${name}: ${said}`, members, table[label][is][answered] / rows.answers.length, is === answered));
  })));
  return panel("confusion", "Decisions", "rows by label; shade: share of all rows", h("div", { class: "scroll" }, h("table", { class: "matrix" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "label"), kinds.map(([said]) => h("th", { scope: "col" }, said)))), h("tbody", {}, lines))));
}

function cell(app: App, kind: string, name: string, members: number[], share: number, right: boolean): HTMLElement {
  return styled(h("button", { type: "button", class: right ? "right" : "wrong", "aria-pressed": String(app.isFiltered(kind, name)),
    "aria-label": `${name}: ${members.length} rows`, "data-key": `${kind} ${name}`, title: `${name}: ${percent(share)}`,
    click: () => app.filter(kind, name, members) }, plain(members.length)), { "--share": `${(100 * share).toFixed(1)}%` });
}

function panel(id: string, title: string, said: string, ...children: HTMLElement[]): HTMLElement {
  return h("div", { class: "panel", id, role: "group", "aria-label": title }, h("h3", {}, title), h("p", { class: "note" }, said), ...children);
}

function bars(app: App, kind: string, title: string, groups: measures.Group[], shows: "share" | "distance" | "rows", said = ""): HTMLElement {
  const all = Math.max(1, ...groups.map((each) => each.rows.length));
  const widest = Math.max(1e-9, ...groups.map((each) => each.value));
  const lines = groups.map((each) => {
    const share = shows === "share" ? each.value : shows === "rows" ? each.rows.length / all : each.value / widest;
    const value = shows === "share" ? percent(each.value) : shows === "rows" ? plain(each.rows.length) : three(each.value);
    const bar = styled(h("span", { class: "bar" }, each.sure === undefined ? null : styled(h("i", {}), { "--at": `${100 * each.sure}%` })), { "--share": `${100 * share}%` });
    return h("li", {}, h("button", { type: "button", class: "line", "aria-pressed": String(app.isFiltered(kind, each.label)), "data-key": `${kind} ${each.label}`,
      "aria-label": `${title} ${each.label}: ${value}${shows === "rows" ? " rows" : `, ${each.rows.length} rows`}`,
      click: () => app.filter(kind, each.label, each.rows) },
    h("span", { class: "name" }, each.label), bar, h("span", { class: "value" }, shows === "rows" ? value : `${value} of ${plain(each.rows.length)}`)));
  });
  return panel(kind, title, said || "rows", h("ul", { class: "bars" }, lines));
}
