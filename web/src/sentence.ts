// What a run makes of one sentence: answer, attributions, attention, layers, neighbours.
import { axisX, axisY, dot, lineY, plot, ruleY } from "@observablehq/plot";
import { attentionView, type HeadControls } from "./attention.ts";
import { Attention, type Explanation, type Task, type TokenSequence } from "./data.ts";
import { h, percent, styled, three, toggle } from "./dom.ts";
import * as measures from "./measures.ts";
import { COLOURS } from "./overview.ts";

export interface Controls extends HeadControls {
  /** Of a token, counted over all sequences of the row. */
  isMasked: (place: number) => boolean;
  mask: (place: number) => void;
  swap: (one: number, other: number) => void;
  /** Ask for attributions of another output. */
  aim: (target: number) => void;
}

let method: "integrated" | "gradient" = "integrated";

export interface Inside {
  task: Task;
  found: Explanation;
  bytes: Uint8Array;
  label?: number | number[];
  /** Texts of rows that neighbours are from. */
  open?: (row: number) => void;
  controls?: Controls;
  /** Sequence -> the token that is chosen, where the view is drawn again and again. */
  memory?: Memory;
  /** Attributions are still to come. */
  pending?: boolean;
}

export type Memory = Map<number, number | null>;

export function inside(view: Inside): HTMLElement {
  const { found } = view;
  return h("div", { class: "inside" }, answer(view), attributions(view),
    ...found.sequences.map((sequence, number) => sequenceView(view, sequence, number)), layers(view));
}

/** What output `number` stands for. */
function outputName(task: Task, number: number): string {
  if (task.kind === "regression") return "the number";
  return task.kind === "binary" ? task.classes[1] : task.classes[number];
}

function answer({ task, found, label, controls }: Inside): HTMLElement {
  const value = measures.named(task, found.answer);
  const parts: HTMLElement[] = [h("p", { class: "answer" }, "Answer ", h("strong", { "data-answer": value }, value),
    label === undefined ? null : ` · label ${measures.named(task, label)}`)];
  if (found.chances) parts.push(h("ul", { class: "bars chances" }, found.chances.map((chance, n) => {
    const bar = styled(h("span", { class: "bar" }), { "--share": percent(chance) });
    const content = [h("span", { class: "name" }, task.classes[n]), bar, h("span", { class: "value", "data-chance": chance }, percent(chance))];
    const output = task.kind === "binary" ? 0 : n;
    return h("li", {}, controls
      ? h("button", { type: "button", class: "line", title: "Attribute this output", "data-key": `aim ${n}`, "aria-pressed": String(found.target === output && task.kind !== "binary"), click: () => controls.aim(output) }, ...content)
      : h("div", { class: "line" }, ...content));
  })));
  else {
    const [low, high] = task.range;
    const at = (x: number) => percent(Math.min(1, Math.max(0, (x - low) / (high - low || 1))));
    parts.push(h("div", { class: "line number" }, h("span", { class: "name" }, `${low} to ${high}`),
      styled(h("span", { class: "bar" }, typeof label === "number" ? styled(h("i", { title: "label" }), { "--at": at(label) }) : null), { "--share": at(found.answer as number) }), h("span", { class: "value" }, three(found.answer as number))));
  }
  if (found.cut) parts.push(h("p", { class: "warning" }, "The text is longer than the run's limit in tokens, and lost its end."));
  return h("section", { class: "part", "aria-label": "answer" }, h("h3", {}, "Answer"), ...parts);
}

/** Tokens on a ground that says which way, and how strongly, they push the output. */
function attributions(view: Inside): HTMLElement {
  const part = h("section", { class: "part", "aria-label": "attributions" });
  const draw = () => {
    const { task, found } = view;
    if (view.pending) {
      part.replaceChildren(h("h3", {}, `What speaks for “${outputName(task, found.target)}”`), h("p", { class: "note" }, "comes when you pause"));
      return;
    }
    const key = (document.activeElement as HTMLElement | null)?.dataset.key;
    const of = (sequence: TokenSequence) => (method === "integrated" ? sequence.integrated : sequence.gradient);
    const most = Math.max(1e-9, ...found.sequences.flatMap((each) => of(each).map(Math.abs)));
    const sum = found.sequences.flatMap(of).reduce((a, b) => a + b, 0);
    const said = method === "integrated"
      ? `They sum to ${three(sum)}; the output is ${three(found.output)}, and ${three(found.baseline)} where each token is [MASK]: the sum is off by ${found.error}.`
      : `They sum to ${three(sum)}; how the output ${three(found.output)} changes at this very point.`;
    const way = (name: typeof method, title: string) => toggle(method === name, { "data-key": `method ${name}`, click: () => { method = name; draw(); } }, title);
    part.replaceChildren(h("h3", {}, `What speaks for “${outputName(task, found.target)}”`),
      h("p", { class: "controls" }, way("integrated", "Integrated gradients"), way("gradient", "Gradient × input")),
      ...found.sequences.map((sequence) => h("p", { class: "tokens" }, sequence.tokens.map((token, place) => {
        const value = of(sequence)[place];
        return styled(h("span", { class: `token ${value < 0 ? "against" : "for"}`, title: `${token}: ${three(value)}`, "data-value": value }, token, h("span", { class: "unseen" }, ` ${three(value)} `)), { "--strength": percent(Math.abs(value) / most) });
      }))),
      h("p", { class: "note" }, h("span", { class: "token for key" }, "for"), " ", h("span", { class: "token against key" }, "against"), ` · ${said}`));
    if (key) part.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };
  draw();
  return part;
}

/** Attention, path and neighbours of a sequence; its tokens are chosen in the first line. */
function sequenceView(view: Inside, sequence: TokenSequence, number: number): HTMLElement {
  const { found, task, controls } = view;
  const offset = found.sequences.slice(0, number).reduce((sum, each) => sum + each.tokens.length, 0);
  let token = view.memory?.get(number) ?? null, swapping: number | null = null;
  if (token !== null && token >= sequence.tokens.length) token = null;
  const line = h("p", { class: "tokens", role: "group", "aria-label": "tokens" });
  const beside = h("div", {});
  const heads = attentionView(sequence, new Attention(sequence, view.bytes), () => token, controls);
  const draw = () => {
    const key = (document.activeElement as HTMLElement | null)?.dataset.key;
    line.replaceChildren(...sequence.tokens.map((name, place) => toggle(token === place, {
      class: `token${sequence.special.includes(place) ? " special" : ""}${controls?.isMasked(offset + place) ? " masked" : ""}`, "data-key": `token ${number} ${place}`,
      click: () => {
        if (swapping !== null && controls) controls.swap(offset + swapping, offset + place);
        [token, swapping] = [token === place ? null : place, null];
        view.memory?.set(number, token);
        draw();
        heads.dispatchEvent(new Event("token"));
      } }, name)));
    beside.replaceChildren(...(token === null ? [h("p", { class: "note" }, "Choose a token to see where it looks, and what is like it.")] : tokenParts(token)));
    if (key) line.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };
  function tokenParts(place: number): HTMLElement[] {
    const parts: HTMLElement[] = [];
    if (controls) parts.push(h("p", { class: "controls" },
      toggle(controls.isMasked(offset + place), { "data-key": "mask", click: () => controls.mask(offset + place) }, "Mask it"),
      toggle(swapping === place, { "data-key": "swap", click: () => { swapping = swapping === place ? null : place; draw(); } }, swapping === place ? "Now choose the other token" : "Swap it with another")));
    const near = sequence.neighbours?.[place] ?? [];
    if (near.length) parts.push(h("h4", {}, `Nearest to “${sequence.tokens[place]}” in other rows, by the last layer's states`),
      h("ul", { class: "near" }, near.map(([name, row, before, after, cosine]) => h("li", {}, `${three(cosine)}  `,
        view.open ? h("button", { type: "button", class: "link", click: () => view.open?.(row) }, `${before} `, h("strong", {}, name), ` ${after}`) : h("span", {}, `${before} `, h("strong", {}, name), ` ${after}`)))));
    return parts;
  }
  draw();
  const which = found.sequences.length > 1 ? `, ${number === 0 ? "first" : "second"} text` : "";
  return h("section", { class: "part", "aria-label": `attention${which}` }, h("h3", {}, `Attention${which}`), line, beside, heads, path(sequence, task));
}

/** Attention rollout: how much of each token has come to the pooled vector. */
function path(sequence: TokenSequence, task: Task): HTMLElement {
  const most = Math.max(...sequence.path.flat());
  const to = task.pooled === "all" ? "the mean of all tokens" : "[CLS]";
  const lines = sequence.path.map((line, layer) => h("tr", {}, h("th", { scope: "row" }, `${layer + 1}`),
    line.map((share, place) => styled(h("td", { title: `${sequence.tokens[place]}: ${percent(share)}`, "aria-label": percent(share) }), { "--share": percent(Math.sqrt(share / most)) }))));
  return h("div", {}, h("h4", {}, `The path to ${to}, layer by layer (attention rollout; shade: square root)`), h("div", { class: "scroll" },
    h("table", { class: "path" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "layer"), sequence.tokens.map((name) => h("th", { scope: "col" }, h("span", {}, name))))), h("tbody", {}, lines))),
    h("p", { class: "note" }, "Attention says where a token looks. What an answer rests on, attributions say better."));
}

/** The answer if the encoder ended after so many layers. */
function layers({ task, found }: Inside): HTMLElement {
  const names = task.kind === "regression" ? ["number"] : task.classes;
  const spots = found.layers.flatMap((line, layer) => line.map((y, n) => ({ layer, y, series: names[n] })));
  const drawn = plot({ width: Math.min(560, Math.max(280, document.body.clientWidth - 70)), height: 200, marginLeft: 40, style: { background: "transparent", fontSize: "12px" }, ariaLabel: "answer after each layer",
    color: { domain: names, range: names.map((_, n) => COLOURS[n % COLOURS.length]) },
    marks: [ruleY([0]), axisX({ label: "layers", ticks: found.layers.length, tickFormat: "d" }), axisY({ label: null, ticks: 4 }),
      lineY(spots, { x: "layer", y: "y", stroke: "series", z: "series", strokeWidth: 2 }), dot(spots, { x: "layer", y: "y", fill: "series", r: 3 })] });
  const head = h("tr", {}, h("th", { scope: "col" }, "layers"), names.map((name) => h("th", { scope: "col" }, name)));
  const body = found.layers.map((line, layer) => h("tr", { "data-layer": layer }, h("th", { scope: "row" }, `${layer}`), line.map((value) => h("td", { class: "number" }, three(value)))));
  return h("section", { class: "part", "aria-label": "answer after each layer" }, h("h3", {}, "The answer after each layer"),
    h("figure", {}, drawn as unknown as HTMLElement, h("ul", { class: "legend" }, names.map((name, n) => h("li", {}, styled(h("span", { class: "swatch" }), { "--ink": COLOURS[n % COLOURS.length] }), name)))),
    h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body)))),
    h("p", { class: "note" }, "The head on what the encoder has made of the text after 0, 1, … layers (logit lens): it was trained on the last alone."));
}
