// The page: what stands where.
import { App } from "./app.ts";
import { inflate, unpack, type Page } from "./data.ts";
import { h, section, toggle } from "./dom.ts";
import { livePanel, rowInside } from "./live.ts";
import { map } from "./map.ts";
import { mistakes } from "./mistakes.ts";
import { curves, scores, settings } from "./overview.ts";
import { rows } from "./rows.ts";
import { inside } from "./sentence.ts";

const THEMES = ["auto", "light", "dark"] as const;
let theme: (typeof THEMES)[number] = "auto";

async function main(): Promise<void> {
  const place = document.getElementById("app");
  const data = document.getElementById("data");
  if (!place || !data) return;
  const { value, bytes } = unpack<Page>(await inflate(data.textContent ?? ""));
  const app = new App(value, bytes);
  const names = value.runs.map((run) => run.name).join(", ");
  place.append(
    h("a", { class: "skip", href: "#rows" }, "To the rows"),
    h("header", {}, h("h1", {}, names), h("nav", { "aria-label": "parts of the page" },
      ...[...(value.live ? [["live", "Try"]] : []), ["scores", "Scores"], ["curves", "Curves"], ["mistakes", "Mistakes"], ["map", "Map"], ["rows", "Rows"], ["settings", "Settings"]]
        .map(([id, name]) => h("a", { href: `#${id}` }, name)), themeButton())),
  );
  const main = h("main", {});
  place.append(main);
  if (value.live) main.append(livePanel(app));
  main.append(scores(app));
  place.append(h("footer", {}, `made by minbert show · ${value.version}`));
  main.append(curves(app), app.region("bar", () => bar(app)), app.region("mistakes", () => mistakes(app)), app.region("map", () => map(app)),
    app.region("rows", () => rows(app)), app.region("sentence", () => sentence(app)), settings(app));
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

function themeButton(): HTMLElement {
  const button = h("button", { type: "button", id: "theme", click: () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    document.documentElement.dataset.theme = theme;
    button.textContent = `theme: ${theme}`;
  } }, `theme: ${theme}`);
  return button;
}

/** Which run's and which task's rows are shown below. */
function bar(app: App): HTMLElement {
  const { runs } = app.page, tasks = Object.keys(app.current.tasks);
  const ofRuns = runs.length > 1 ? runs.map((run, n) => toggle(n === app.run, { "data-key": `run ${n}`, click: () => app.choose(n, app.task) }, run.name)) : [];
  const ofTasks = tasks.length > 1 ? tasks.map((task) => toggle(task === app.task, { "data-key": `task ${task}`, click: () => app.choose(app.run, task) }, task)) : [];
  if (!ofRuns.length && !ofTasks.length) return h("div", { hidden: true });
  return h("div", { class: "chooser", role: "group", "aria-label": "run and task of the rows below" }, ...ofRuns, ofRuns.length && ofTasks.length ? h("span", {}, " · ") : null, ...ofTasks);
}

/** The row that was chosen, and what the run makes of it. */
function sentence(app: App): HTMLElement {
  const { rows: all, view, row } = app;
  if (row === null || !all || !view) return h("div", { id: "sentence" });
  const found = app.explained(row);
  const made = section("sentence", `Row ${all.ids[row]}`, h("button", { type: "button", class: "close", click: () => app.open(null) }, "Close"),
    ...all.texts.map((column) => h("blockquote", {}, column[row])));
  made.querySelector("h2")?.setAttribute("tabindex", "-1");
  const label = all.labels?.[row];
  if (found) made.append(inside({ task: view, found, bytes: app.bytes, label, open: (other) => app.open(other) }));
  else if (app.page.live) made.append(rowInside(app, row));
  else {
    const chances = all.chances?.map((of) => of[row] / 10_000) ?? null;
    made.append(h("p", {}, `Label ${label === undefined ? "-" : [label].flat().map((n) => view.classes[n] ?? n).join(", ")}, answer ${[all.answers[row]].flat().map((n) => view.classes[n] ?? n).join(", ")}.`));
    if (chances) made.append(h("ul", {}, chances.map((chance, n) => h("li", {}, `${view.classes[n]}: ${(100 * chance).toFixed(1)}%`))));
    made.append(h("p", { class: "note" }, `This page holds the inside of ${Object.keys(view.explained).length} rows of ${all.ids.length}, those marked “inside”; of all others: minbert show RUN --live, or more with --explain.`));
  }
  return made;
}

void main();
