// Scores beside the constant answer, curves, and settings.
import { lineY, dot, plot, ruleX, tip, pointer, axisX, axisY, type Markish } from "@observablehq/plot";
import type { App } from "./app.ts";
import type { Run } from "./data.ts";
import { h, plain, section, styled, three } from "./dom.ts";

/** Okabe and Ito's colours, which most eyes can tell apart, in an order for both themes. */
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

export function scores(app: App): HTMLElement {
  const { runs } = app.page;
  const several = runs.length > 1;
  const lines = app.tasks().flatMap((task) => {
    const metrics = [...new Set(runs.flatMap((run) => (run.scores[task] ?? []).map((line) => line.metric)))];
    return metrics.map((metric) => ({ task, metric }));
  });
  const scored = Object.keys(runs[0].scores).filter((task) => !app.tasks().includes(task));
  for (const task of scored)
    for (const { metric } of runs[0].scores[task]) lines.push({ task, metric });
  const head = h("tr", {}, h("th", { scope: "col" }, "task"), h("th", { scope: "col" }, "metric"),
    runs.map((run) => h("th", { scope: "col", class: "number" }, several ? run.name : "score")),
    h("th", { scope: "col", class: "wide" }, "95% interval, and | one answer to all rows"),
    h("th", { scope: "col", class: "number" }, "constant"));
  const body = lines.map(({ task, metric }) => {
    const found = runs.map((run) => run.scores[task]?.find((line) => line.metric === metric));
    const constant = found.find((line) => line?.constant !== undefined)?.constant;
    return h("tr", { "data-score": `${task} ${metric}` }, h("td", {}, task), h("td", {}, metric),
      found.map((line) => h("td", { class: "number", title: line ? String(line.score) : "" },
        line ? three(line.score) : "-")),
      h("td", { class: "wide" }, found.map((line, n) => line?.interval ? interval(line.interval, line.score, constant ?? null, n) : null)),
      h("td", { class: "number" }, constant === undefined || constant === null ? "-" : three(constant)));
  });
  const doubts = runs.flatMap((run) => Object.entries(run.doubts).filter(([, why]) => why)
    .map(([task, why]) => h("p", { class: "warning" }, `${run.name}: ${task} seems not to be learnt: ${why}`)));
  return section("scores", "Scores", h("div", { class: "scroll" }, h("table", { class: "scores" }, h("thead", {}, head), h("tbody", {}, body))),
    h("p", { class: "note" }, "Intervals: percentiles of 2,000 bootstrap samples of the development rows. Constant: one answer to all rows, the most frequent label or the mean."),
    ...doubts, ...runs.map((run) => facts(run, several)));
}

/** A line from 0 to 1 (or from -1, of a correlation) with the interval, the score and the constant. */
function interval([low, high]: [number, number], score: number, constant: number | null, number: number): HTMLElement {
  const from = Math.min(0, low, constant ?? 0) < 0 ? -1 : 0;
  const at = (x: number) => `${(100 * Math.min(1, Math.max(0, (x - from) / (1 - from)))).toFixed(2)}%`;
  const said = `from ${three(low)} to ${three(high)}`;
  return h("div", { class: "interval", role: "img", "aria-label": `95% interval ${said}`, title: said },
    styled(h("span", { class: "range" }), { "--from": at(low), "--to": at(high), "--ink": COLOURS[number % COLOURS.length] }),
    constant === null ? null : styled(h("span", { class: "constant" }), { "--at": at(constant) }),
    styled(h("span", { class: "point" }), { "--at": at(score), "--ink": COLOURS[number % COLOURS.length] }),
    h("span", { class: "ends" }, `${three(low)} – ${three(high)}`));
}

function facts(run: Run, named: boolean): HTMLElement {
  const { facts: f } = run;
  const parts = run.finished
    ? [`best epoch ${f.best_epoch} of ${f.epochs}`, `${plain(f.steps ?? 0)} steps in ${plain(Math.round(f.seconds ?? 0))} s`,
      `${plain(f.parameters?.trained ?? 0)} of ${plain(f.parameters?.all ?? 0)} parameters trained`,
      `${f.device}, ${f.threads} threads`]
    : ["not finished: scores are of the best weights so far"];
  return h("p", { class: "note facts" }, named ? `${run.name}: ` : "", parts.join(" · "));
}

interface Spot { x: number; y: number; series: string }

export function curves(app: App): HTMLElement {
  const { runs } = app.page;
  const several = runs.length > 1;
  const name = (run: Run, task: string) =>
    [several ? run.name : "", app.tasks().length > 1 || !several ? task : ""].filter(Boolean).join(" ") || run.name;
  const loss: Spot[] = [], scored: Spot[] = [], development: Spot[] = [];
  for (const run of runs) {
    for (const [task, points] of Object.entries(run.curves.loss))
      loss.push(...points.map(([x, y]) => ({ x, y, series: name(run, task) })));
    for (const line of run.curves.scores)
      for (const [task, found] of Object.entries(line.scores)) {
        const metric = run.scores[task]?.[0]?.metric ?? Object.keys(found)[0];
        scored.push({ x: line.step, y: found[metric], series: `${name(run, task)} ${metric}` });
        if (found.loss !== undefined) development.push({ x: line.step, y: found.loss, series: `${name(run, task)} development` });
      }
  }
  const range: { from?: number; to?: number } = {};
  const place = h("div", { class: "pair" });
  const last = Math.max(1, ...loss.map(({ x }) => x), ...scored.map(({ x }) => x));
  const ends = (["from", "to"] as const).map((end) =>
    h("input", { type: "number", min: 0, max: last, step: 1, "aria-label": `steps ${end}`, placeholder: end === "from" ? "0" : String(last), "data-key": `zoom ${end}`,
      change: (event: Event) => {
        const { value } = event.target as HTMLInputElement;
        zoom({ ...range, [end]: value === "" ? undefined : Number(value) });
      } }));
  function zoom(to: { from?: number; to?: number }): void {
    range.from = to.from;
    range.to = to.to;
    ends.forEach((input, n) => (input.value = String([range.from, range.to][n] ?? "")));
    draw();
  }
  function draw(): void {
    place.replaceChildren(
      chart("Loss: training, and on development rows (dots)", [...loss], development, range, zoom),
      chart("Score on development rows", [], scored, range, zoom));
  }
  draw();
  const made = section("curves", "Curves", h("p", { class: "controls" }, "Steps ", ends[0], " to ", ends[1], " ",
    h("button", { type: "button", click: () => zoom({}) }, "All steps"), h("span", { class: "note" }, " or drag over a curve")), place);
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) { width = place.clientWidth; draw(); }
  }).observe(place);
  return made;
}

/** Lines, and lines with dots; dragging over it zooms. */
function chart(title: string, lines: Spot[], dots: Spot[], range: { from?: number; to?: number }, zoom: (to: { from: number; to: number }) => void): HTMLElement {
  const within = ({ x }: Spot) => x >= (range.from ?? -Infinity) && x <= (range.to ?? Infinity);
  const [line, spots] = [lines.filter(within), dots.filter(within)];
  const series = [...new Set([...lines, ...dots].map((spot) => spot.series))];
  const all = [...line, ...spots];
  if (!all.length) return h("figure", {}, h("figcaption", {}, title), h("p", { class: "note" }, "No step in this range is noted."));
  const marks: Markish[] = [axisX({ label: "step", ticks: 5 }), axisY({ label: null, ticks: 5 }),
    ...[false, true].flatMap((again) => [[line, 1.2], [spots, 2]].map(([points, strokeWidth]) =>
      lineY((points as Spot[]).filter((spot) => series.indexOf(spot.series) >= COLOURS.length === again),
        { x: "x", y: "y", stroke: "series", z: "series", strokeWidth: strokeWidth as number, strokeDasharray: again ? "5 3" : undefined }))),
    dot(spots, { x: "x", y: "y", fill: "series", r: 3.5 }),
    ruleX(all, pointer({ x: "x", py: "y", stroke: "currentColor", strokeOpacity: 0.4 })),
    tip(all, pointer({ x: "x", y: "y", title: ({ x, y, series }: Spot) => `${series}\nstep ${plain(Math.round(x))}: ${y.toPrecision(4)}`, className: "tip", fill: "var(--raised)", stroke: "var(--line)" }))];
  const width = Math.min(620, Math.max(280, (document.getElementById("curves")?.clientWidth ?? document.body.clientWidth - 48) / (document.body.clientWidth > 860 ? 2 : 1) - 20));
  const drawn = plot({ width, height: 240, marginLeft: 44, style: { background: "transparent", fontSize: "12px" },
    color: { domain: series, range: series.map((_, n) => COLOURS[n % COLOURS.length]) }, marks, ariaLabel: title });
  const x = drawn.scale("x");
  let start: number | null = null;
  const at = (event: PointerEvent) => Number(x?.invert?.(event.clientX - drawn.getBoundingClientRect().left));
  drawn.addEventListener("pointerdown", (event) => (start = at(event as PointerEvent)));
  drawn.addEventListener("pointerup", (event) => {
    const end = at(event as PointerEvent);
    if (start !== null && Math.abs(end - start) > (all[all.length - 1].x - all[0].x) / 50)
      zoom({ from: Math.round(Math.min(start, end)), to: Math.round(Math.max(start, end)) });
    start = null;
  });
  const legend = h("ul", { class: "legend" }, series.map((each, n) =>
    h("li", {}, styled(h("span", { class: n < COLOURS.length ? "swatch" : "swatch again" }), { "--ink": COLOURS[n % COLOURS.length] }), each)));
  return h("figure", { role: "group", "aria-label": title }, h("figcaption", {}, title), drawn as unknown as HTMLElement, legend);
}

export function settings(app: App): HTMLElement {
  const { runs } = app.page;
  const names = [...new Set(runs.flatMap((run) => run.settings.map(([name]) => name)))];
  const values = new Map(names.map((name) => [name, runs.map((run) => run.settings.find(([own]) => own === name))]));
  const differs = names.filter((name) => new Set(values.get(name)?.map((each) => each?.[1])).size > 1);
  const changed = names.filter((name) => values.get(name)?.some((each) => each && !each[2]));
  const table = (chosen: string[]) => h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "setting"), runs.map((run) => h("th", { scope: "col" }, run.name)))),
    h("tbody", {}, chosen.map((name) => h("tr", {}, h("td", {}, name),
      values.get(name)?.map((each) => h("td", { class: each?.[2] ? "" : "changed" }, each?.[1] ?? "-")))))));
  const parts = runs.length > 1
    ? [h("h3", {}, "What differs"), differs.length ? table(differs) : h("p", {}, "No setting that decides numbers differs.")]
    : [table(changed)];
  return section("settings", "Settings", ...parts,
    h("details", {}, h("summary", {}, "All settings"), table(names)),
    h("p", { class: "note" }, "In bold what is not the default."));
}
