// A sentence of one's own: asks the server that the page is from, as one types.
import type { App } from "./app.ts";
import { unpack, type Block, type Explanation, type Task, type Value } from "./data.ts";
import { h, percent, section, styled, three, toggle } from "./dom.ts";
import * as measures from "./measures.ts";
import { inside, type Controls, type Memory } from "./sentence.ts";

interface HeadAnswer { answer: Value; chances: number[] | null; outputs: number[] }
interface RunAnswer {
  run: number;
  answers: Record<string, HeadAnswer>;
  inside: Explanation | null;
  guesses: [token: string, chance: number][][];
}
interface Reply { runs: RunAnswer[] }
interface Question {
  texts?: string[]; task: string; run?: number; row?: number; steps: number; target?: number;
  changes?: { masked: number[]; swapped: [number, number][]; heads_off: [number, number][]; layers_off: number[] };
}

/** Steps of integrated gradients of a text that one has stopped to type. */
const STEPS = 16;
const PAUSE_MS = 400;

async function ask(question: Question): Promise<Block<Reply>> {
  const reply = await fetch("ask", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) });
  if (!reply.ok) throw new Error(await reply.text());
  return unpack<Reply>(new Uint8Array(await reply.arrayBuffer()));
}

/** What a run makes of one of its rows. */
export function rowInside(app: App, row: number): HTMLElement {
  const place = h("div", {}, h("p", { role: "status" }, "asking …"));
  const { run, task, view, rows } = app;
  const look = async (target?: number) => {
    try {
      const { value, bytes } = await ask({ task, run, row, steps: STEPS, target });
      const found = value.runs[0].inside;
      if (found && view) place.replaceChildren(inside({ task: view, found, bytes, label: rows?.labels?.[row], open: (other) => app.open(other) }));
    } catch (error) {
      place.replaceChildren(failure(error));
    }
  };
  void look();
  return place;
}

const failure = (error: unknown): HTMLElement => h("p", { class: "warning", role: "alert" }, error instanceof Error ? error.message : String(error));

/** The panel in which to type. */
export function livePanel(app: App): HTMLElement {
  const { runs } = app.page;
  const tasks = new Map<string, Task>(runs.flatMap((run) => Object.entries(run.tasks)));
  let task = [...tasks.keys()][0] ?? "", target: number | undefined;
  let plainAnswers: RunAnswer[] | null = null;
  const memory: Memory = new Map();
  const masked = new Set<number>(), headsOff = new Set<string>(), layersOff = new Set<number>();
  let swapped: [number, number][] = [];
  let asking = false, again = false, pause = 0;

  const field = (name: string, key: string) => h("textarea", { rows: 2, "aria-label": name, placeholder: name, "data-key": key, input: () => { forgetTokens(); changed(); } });
  const pairs = [...tasks.values()].some((each) => each.pair);
  const first = field(pairs ? "A text, or the first of a pair" : "A text", "first");
  const second = pairs ? field("The second text of a pair", "second") : null;
  const status = h("p", { class: "note", role: "status" }, "Type a text; each head answers as you do.");
  const edits = h("p", { class: "controls edits" });
  const heads = h("div", { class: "columns answers" });
  const views = h("div", { class: "columns insides" });

  function forgetTokens(): void {
    masked.clear();
    swapped = [];
    target = undefined;
  }
  const isChanged = () => masked.size + swapped.length + headsOff.size + layersOff.size > 0;
  const texts = () => [first.value, second?.value ?? ""].filter((text) => text.trim());
  const question = (steps: number, plain = false): Question => ({
    texts: texts(), task, steps, target,
    changes: plain ? undefined : { masked: [...masked], swapped, layers_off: [...layersOff], heads_off: [...headsOff].map((name) => name.split(" ").map(Number) as [number, number]) },
  });

  function changed(): void {
    window.clearTimeout(pause);
    if (asking) { again = true; return; }
    void look(0);
  }
  async function look(steps: number): Promise<void> {
    if (!texts().length) { [plainAnswers] = [null]; heads.replaceChildren(); views.replaceChildren(); edits.replaceChildren(); return; }
    asking = true;
    again = false;
    const began = performance.now();
    try {
      const { value, bytes } = await ask(question(steps));
      const took = performance.now() - began;
      // What the same text is answered when nothing is changed, to compare with.
      if (!isChanged()) plainAnswers = value.runs;
      else if (!plainAnswers) plainAnswers = (await ask(question(0, true))).value.runs;
      if (!again) show(value.runs, bytes, steps > 0);
      status.textContent = `answered in ${took.toFixed(0)} ms${steps ? ", with attributions" : ""}`;
      document.documentElement.dataset.answered = `${Number(document.documentElement.dataset.answered ?? 0) + 1}`;
    } catch (error) {
      heads.replaceChildren(failure(error));
      views.replaceChildren();
    }
    asking = false;
    if (again) void look(0);
    else if (!steps) pause = window.setTimeout(() => { if (!asking) void look(STEPS); }, PAUSE_MS);
  }

  function show(answers: RunAnswer[], bytes: Uint8Array, attributed: boolean): void {
    const key = (document.activeElement as HTMLElement | null)?.dataset.key;
    heads.replaceChildren(...answers.map((each) => runAnswers(each)));
    showEdits(answers);
    views.replaceChildren(...answers.flatMap((each) => {
      const view = runs[each.run].tasks[task];
      if (!each.inside || !view) return [];
      const title = runs.length > 1 ? [h("h3", {}, runs[each.run].name)] : [];
      return [h("div", {}, ...title, inside({ task: view, found: each.inside, bytes, controls, memory, pending: !attributed,
        open: each.run === app.run && task === app.task ? (row) => app.open(row) : undefined }))];
    }));
    if (key) document.querySelector<HTMLElement>(`#live [data-key="${CSS.escape(key)}"]`)?.focus();
  }

  function runAnswers(found: RunAnswer): HTMLElement {
    const run = runs[found.run], before = plainAnswers?.find((each) => each.run === found.run);
    const cards = Object.values(run.tasks).map((each) => card(each, found.answers[each.name], isChanged() ? before?.answers[each.name] : undefined));
    const guesses = found.guesses.map((line, n) => h("li", { "data-guess": n }, `[MASK] ${n + 1}: `, line.map(([token, chance], k) => h("span", {}, k ? ", " : "", h("strong", {}, token), ` ${percent(chance)}`))));
    return h("div", { "data-run": found.run }, runs.length > 1 ? h("h3", {}, run.name) : null, ...cards,
      guesses.length ? h("div", { class: "panel" }, h("h4", {}, "What may stand for [MASK]"), h("ul", { class: "near" }, guesses)) : null);
  }

  function card(of: Task, found?: HeadAnswer, before?: HeadAnswer): HTMLElement {
    const name = toggle(of.name === task, { class: "task", "data-key": `inside ${of.name}`, title: of.title, click: () => { task = of.name; forgetTokens(); changed(); } }, of.name);
    if (!found) return h("div", { class: "panel card" }, name, h("span", { class: "note" }, of.pair ? " asks for a second text" : ""));
    const value = measures.named(of, found.answer);
    const was = before && measures.named(of, before.answer) !== value ? h("span", { class: "note" }, ` was ${measures.named(of, before.answer)}`) : null;
    const bars = found.chances?.map((chance, n) => h("li", { class: "line" }, h("span", { class: "name" }, of.classes[n]),
      styled(h("span", { class: "bar" }, before?.chances ? styled(h("i", { title: "unchanged" }), { "--at": percent(before.chances[n]) }) : null), { "--share": percent(chance) }),
      h("span", { class: "value" }, percent(chance))));
    return h("div", { class: "panel card", "data-task": of.name }, name, " ", h("strong", { class: "value" }, found.chances ? value : three(found.answer as number)), was, bars ? h("ul", { class: "bars" }, bars) : null);
  }

  function showEdits(answers: RunAnswer[]): void {
    const tokens = answers.find((each) => each.inside)?.inside?.sequences.flatMap((each) => each.tokens) ?? [];
    const chip = (text: string, undo: () => void) => toggle(true, { class: "chip", "aria-label": `${text}: undo`, click: () => { undo(); changed(); } }, `${text} ×`);
    edits.replaceChildren(
      ...[...masked].map((place) => chip(`token ${place + 1} masked`, () => masked.delete(place))),
      ...swapped.map((pair) => chip(`${tokens[pair[0]]} and ${tokens[pair[1]]} swapped`, () => (swapped = swapped.filter((each) => each !== pair)))),
      ...[...headsOff].map((name) => chip(`layer ${Number(name.split(" ")[0]) + 1}, head ${Number(name.split(" ")[1]) + 1} off`, () => headsOff.delete(name))),
      ...[...layersOff].map((layer) => chip(`layer ${layer + 1} off`, () => layersOff.delete(layer))));
    if (isChanged()) edits.append(h("button", { type: "button", "data-key": "undo", click: () => { forgetTokens(); headsOff.clear(); layersOff.clear(); changed(); } }, "Undo all"));
  }

  const flip = <T>(set: Set<T>, value: T) => { if (!set.delete(value)) set.add(value); changed(); };
  const controls: Controls = {
    isMasked: (place) => masked.has(place),
    mask: (place) => flip(masked, place),
    swap: (one, other) => { if (one !== other) swapped.push([one, other]); changed(); },
    isOff: (layer, head) => headsOff.has(`${layer} ${head}`),
    switchHead: (layer, head) => flip(headsOff, `${layer} ${head}`),
    isLayerOff: (layer) => layersOff.has(layer),
    switchLayer: (layer) => flip(layersOff, layer),
    aim: (output) => { target = output; void look(STEPS); },
  };
  const says = app.page.live?.masks.some(Boolean) ? " A [MASK] in it is filled in." : "";
  return section("live", "Try a sentence", h("p", { class: "note" }, `Choose a head to see inside. Mask or swap tokens, blot out heads or layers, and see what the answer does.${says}`), first, second, status, edits, heads, views);
}
