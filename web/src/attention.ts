// Attention of a head, as a matrix and as lines; all heads of a sequence, to choose from.
import { Attention, type TokenSequence } from "./data.ts";
import { h, styled, svg, three, toggle } from "./dom.ts";
import { entropy } from "./measures.ts";

/** What is chosen of an attention view; it stays as it is from sentence to sentence. */
export const chosen = { layer: 0, head: 0, sorted: false, faded: true };

export interface HeadControls {
  isOff: (layer: number, head: number) => boolean;
  switchHead: (layer: number, head: number) => void;
  isLayerOff: (layer: number) => boolean;
  switchLayer: (layer: number) => void;
}

export function attentionView(sequence: TokenSequence, attention: Attention, token: () => number | null, controls?: HeadControls): HTMLElement {
  const size = attention.size;
  chosen.layer = Math.min(chosen.layer, sequence.layers - 1);
  chosen.head = Math.min(chosen.head, sequence.heads - 1);
  const view = h("div", { class: "attention" });
  const entropies = Array.from({ length: sequence.layers }, (_, layer) =>
    Array.from({ length: sequence.heads }, (_, head) => entropy(attention.head(layer, head), size)));
  const draw = () => {
    const key = (document.activeElement as HTMLElement | null)?.dataset.key;
    view.replaceChildren(controlsOf(), grid(), detail());
    if (key) view.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };

  function controlsOf(): HTMLElement {
    return h("p", { class: "controls" },
      toggle(chosen.sorted, { "data-key": "sorted", click: () => { chosen.sorted = !chosen.sorted; draw(); } }, "Sort heads by entropy"),
      toggle(chosen.faded, { "data-key": "faded", click: () => { chosen.faded = !chosen.faded; draw(); } }, "Fade special tokens"));
  }

  function grid(): HTMLElement {
    const heads = entropies.flatMap((line, layer) => line.map((value, head) => ({ layer, head, value })));
    if (chosen.sorted) heads.sort((a, b) => a.value - b.value);
    const button = ({ layer, head, value }: { layer: number; head: number; value: number }) => {
      const canvas = thumbnail(attention.head(layer, head), size, sequence.special);
      const off = controls?.isOff(layer, head) || controls?.isLayerOff(layer);
      return toggle(layer === chosen.layer && head === chosen.head, {
        class: off ? "head off" : "head", "data-key": `head ${layer} ${head}`, title: `layer ${layer + 1}, head ${head + 1}: entropy ${three(value)}`,
        "aria-label": `layer ${layer + 1}, head ${head + 1}, entropy ${three(value)}${off ? ", blotted out" : ""}`,
        click: () => { chosen.layer = layer; chosen.head = head; draw(); } }, canvas);
    };
    const columns = styled(h("div", { class: "heads", role: "group", "aria-label": "heads" }), { "--heads": sequence.heads });
    columns.append(...heads.map(button));
    const name = chosen.sorted ? "sharpest first" : "a line a layer, from the first";
    return h("div", {}, h("p", { class: "note" }, `${sequence.layers} layers of ${sequence.heads} heads, ${name}`), columns);
  }

  function detail(): HTMLElement {
    const { layer, head } = chosen;
    const weights = attention.head(layer, head);
    const buttons = controls ? [
      toggle(controls.isOff(layer, head), { "data-key": "blot head", click: () => controls.switchHead(layer, head) }, "Blot out this head"),
      toggle(controls.isLayerOff(layer), { "data-key": "blot layer", click: () => controls.switchLayer(layer) }, `Blot out layer ${layer + 1}`)] : [];
    return h("div", {}, h("h4", {}, `Layer ${layer + 1}, head ${head + 1}: entropy ${three(entropies[layer][head])} nats`),
      buttons.length ? h("p", { class: "controls" }, ...buttons) : null,
      h("div", { class: "pair" }, lines(sequence, weights, token()), matrix(sequence, weights)));
  }
  draw();
  view.addEventListener("token", draw);
  return view;
}

const faded = (special: Set<number>, query: number, key: number): number =>
  chosen.faded && (special.has(query) || special.has(key)) ? 0.12 : 1;

function thumbnail(weights: Uint8Array, size: number, specials: number[]): HTMLCanvasElement {
  const canvas = h("canvas", { width: size, height: size, "aria-hidden": "true" });
  paint(canvas, weights, size, specials);
  return canvas;
}

function paint(canvas: HTMLCanvasElement, weights: Uint8Array, size: number, specials: number[]): void {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const image = pen.createImageData(size, size), special = new Set(specials);
  for (let cell = 0; cell < size * size; cell++) {
    // The square root tells small weights apart, as in both themes one can see them.
    const share = (weights[cell] / 255) * faded(special, Math.floor(cell / size), cell % size);
    image.data.set([30, 136, 210, 255 * Math.sqrt(share)], 4 * cell);
  }
  pen.putImageData(image, 0, 0);
}

/** Queries on the left, keys on the right, a line's width the weight. */
function lines(sequence: TokenSequence, weights: Uint8Array, token: number | null): HTMLElement {
  const { tokens } = sequence, size = tokens.length, special = new Set(sequence.special);
  const [step, width, left] = [20, 320, 110];
  const y = (place: number) => step * (place + 0.7);
  const drawn: SVGElement[] = [];
  for (let query = 0; query < size; query++) {
    if (token !== null && token !== query) continue;
    for (let key = 0; key < size; key++) {
      const weight = (weights[query * size + key] / 255) * faded(special, query, key);
      if (weight < 0.03) continue;
      drawn.push(svg("line", { x1: left, x2: width - left, y1: y(query), y2: y(key), "stroke-opacity": Math.sqrt(weight).toFixed(3), "stroke-width": (0.5 + 2.5 * weight).toFixed(2) },
        svg("title", {}, `${tokens[query]} → ${tokens[key]}: ${(weights[query * size + key] / 255).toFixed(2)}`)));
    }
  }
  const name = (place: number, x: number, anchor: string) => svg("text", { x, y: y(place) + 4, "text-anchor": anchor, class: special.has(place) ? "special" : "" }, tokens[place]);
  const names = tokens.flatMap((_, place) => [name(place, left - 6, "end"), name(place, width - left + 6, "start")]);
  const of = token === null ? "each token" : `“${tokens[token]}”`;
  return h("figure", {}, h("figcaption", {}, `${of} (left) looks at (right)`),
    svg("svg", { viewBox: `0 0 ${width} ${step * (size + 0.4)}`, class: "lines", role: "img", "aria-label": `attention of ${of}: the table beside it has the same weights` }, drawn, names) as unknown as HTMLElement);
}

function matrix(sequence: TokenSequence, weights: Uint8Array): HTMLElement {
  const { tokens } = sequence, size = tokens.length;
  const canvas = h("canvas", { width: size, height: size, class: "matrix", role: "img", "aria-label": "attention weights, a line for each query and a column for each key" });
  paint(canvas, weights, size, sequence.special);
  const note = h("p", { class: "tipline" }, "Point at a cell to read its weight.");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [key, query] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((x) => Math.min(size - 1, Math.max(0, Math.floor(x * size))));
    note.textContent = `${tokens[query]} → ${tokens[key]}: ${(weights[query * size + key] / 255).toFixed(2)}`;
  });
  const strongest = tokens.map((name, query) => {
    const row = [...weights.subarray(query * size, (query + 1) * size)];
    const order = row.map((_, key) => key).sort((a, b) => row[b] - row[a]).slice(0, 3);
    return h("tr", {}, h("th", { scope: "row" }, name), order.map((key) => h("td", {}, `${tokens[key]} ${(row[key] / 255).toFixed(2)}`)));
  });
  return h("figure", {}, h("figcaption", {}, "All weights: a line for each token, a column for what it looks at (shade: square root)"), canvas, note,
    h("details", {}, h("summary", {}, "As a table: what each token looks at most"), h("div", { class: "scroll" }, h("table", { class: "strongest" }, h("tbody", {}, strongest)))));
}
