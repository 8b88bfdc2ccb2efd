// What is counted over rows. Nothing here draws; test/measures.test.ts has it beside numbers of
// Python's.
import type { Rows, Task, Value } from "./data.ts";

export const BINS = 10;

export function same(a: Value, b: Value): boolean {
  return String(a) === String(b);
}

/** How far off an answer is: of a number the distance, otherwise 0 or 1. */
export function off(rows: Rows, task: Task, row: number): number {
  if (!rows.labels) return 0;
  const [label, answer] = [rows.labels[row], rows.answers[row]];
  if (task.kind === "regression") return Math.abs((answer as number) - (label as number));
  return same(label, answer) ? 0 : 1;
}

/** The probability of the answer; of several labels, of the decision that is least sure. */
export function confidence(rows: Rows, task: Task, row: number): number {
  if (!rows.chances) return 0;
  if (task.kind === "labels") {
    const sure = rows.chances.map((of) => Math.max(of[row], 10_000 - of[row]));
    return Math.min(...sure) / 10_000;
  }
  return rows.chances[rows.answers[row] as number][row] / 10_000;
}

/** What orders rows from most wrong to surely right. */
export function wrongness(rows: Rows, task: Task, row: number): number {
  if (task.kind === "regression") return off(rows, task, row);
  const sure = confidence(rows, task, row);
  return off(rows, task, row) ? sure : -sure;
}

/** confusion[label][answer] in rows. */
export function confusion(rows: Rows, classes: number): number[][] {
  const table = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  rows.labels?.forEach((label, row) => {
    table[label as number][rows.answers[row] as number] += 1;
  });
  return table;
}

/** For each label [[rightly no, wrongly yes], [wrongly no, rightly yes]] in rows. */
export function decisions(rows: Rows, classes: number): number[][][] {
  const table = Array.from({ length: classes }, () => [[0, 0], [0, 0]]);
  rows.labels?.forEach((held, row) => {
    for (let label = 0; label < classes; label++) {
      const [is, said] = [held, rows.answers[row]].map((v) => (v as number[]).includes(label));
      table[label][Number(is)][Number(said)] += 1;
    }
  });
  return table;
}

export interface Group {
  label: string;
  rows: number[];
  /** Share answered right, or the mean distance of a regression. */
  value: number;
  /** Mean confidence, of a bin of it. */
  sure?: number;
}

function group(rows: Rows, task: Task, label: string, members: number[]): Group {
  const total = members.reduce((sum, row) => sum + off(rows, task, row), 0);
  const mean = members.length ? total / members.length : 0;
  return { label, rows: members, value: task.kind === "regression" ? mean : 1 - mean };
}

/** Rows by the probability of their answer, in bins of equal width (of one answer a row). */
export function calibration(rows: Rows, task: Task): Group[] {
  const bins: number[][] = Array.from({ length: BINS }, () => []);
  rows.answers.forEach((_, row) => {
    const sure = confidence(rows, task, row);
    bins[Math.min(BINS - 1, Math.floor(sure * BINS + 1e-9))].push(row);
  });
  return bins.map((members, bin) => {
    const sum = members.reduce((total, row) => total + confidence(rows, task, row), 0);
    const made = group(rows, task, `${bin / BINS} to ${(bin + 1) / BINS}`, members);
    return { ...made, sure: members.length ? sum / members.length : 0 };
  });
}

/** Σ rows / all |share right - mean confidence| (Guo et al., 2017). */
export function calibrationError(groups: Group[]): number {
  const all = groups.reduce((sum, each) => sum + each.rows.length, 0);
  const gaps = groups.map((each) => each.rows.length * Math.abs(each.value - (each.sure ?? 0)));
  return all ? gaps.reduce((a, b) => a + b, 0) / all : 0;
}

/** Rows by length in tokens, in up to `count` groups of about equal size. */
export function byLength(rows: Rows, task: Task, count = 6): Group[] {
  const order = rows.tokens.map((_, row) => row).sort((a, b) => rows.tokens[a] - rows.tokens[b]);
  const groups: Group[] = [];
  let start = 0;
  for (let part = 1; part <= count && start < order.length; part++) {
    let end = Math.max(start + 1, Math.round((part * order.length) / count));
    while (end < order.length && rows.tokens[order[end]] === rows.tokens[order[end - 1]]) end++;
    const members = order.slice(start, end);
    const [low, high] = [rows.tokens[order[start]], rows.tokens[order[end - 1]]];
    groups.push(group(rows, task, low === high ? `${low}` : `${low} to ${high}`, members));
    start = end;
  }
  return groups;
}

/** Rows by label: classes, labels that hold, or whole numbers of a regression. */
export function byLabel(rows: Rows, task: Task): Group[] {
  const members = new Map<string, number[]>();
  const [low, high] = task.range;
  const width = (high - low) / 5 || 1;
  if (task.kind !== "regression") for (const name of task.classes) members.set(name, []);
  rows.labels?.forEach((label, row) => {
    let names: string[];
    if (task.kind === "regression") {
      const part = Math.min(4, Math.max(0, Math.floor(((label as number) - low) / width)));
      names = [`${+(low + part * width).toFixed(3)} to ${+(low + (part + 1) * width).toFixed(3)}`];
    } else names = [label].flat().map((number) => task.classes[number]);
    for (const name of names) members.set(name, [...(members.get(name) ?? []), row]);
  });
  const groups = [...members].map(([name, found]) => group(rows, task, name, found));
  if (task.kind === "regression") groups.sort((a, b) => parseFloat(a.label) - parseFloat(b.label));
  return groups;
}

/** Rows by answer - label, in 20 steps of the range. */
export function byDeviation(rows: Rows, task: Task): Group[] {
  const step = (task.range[1] - task.range[0]) / 20;
  const members = new Map<number, number[]>();
  rows.labels?.forEach((label, row) => {
    const bin = Math.floor(((rows.answers[row] as number) - (label as number)) / step + 0.5);
    members.set(bin, [...(members.get(bin) ?? []), row]);
  });
  return [...members]
    .sort(([a], [b]) => a - b)
    .map(([bin, found]) => group(rows, task, `${+((bin - 0.5) * step).toFixed(3)} to ${+((bin + 0.5) * step).toFixed(3)}`, found));
}

/** Mean entropy in nats of the rows of a head's attention (S, S), given in 1/255. */
export function entropy(head: Uint8Array, size: number): number {
  let total = 0;
  for (let query = 0; query < size; query++) {
    const row = head.subarray(query * size, (query + 1) * size);
    const sum = row.reduce((a, b) => a + b, 0) || 1;
    for (const weight of row) if (weight) total -= (weight / sum) * Math.log(weight / sum);
  }
  return total / size;
}

/** What a class, several, or a number is called. */
export function named(task: Task, value: Value): string {
  if (Array.isArray(value)) return value.map((n) => task.classes[n]).join(", ") || "none";
  return task.classes[value] ?? String(+value.toFixed(3));
}

/** Rows that hold all words of a search, in any of their texts, ids aside. */
export function matches(rows: Rows, row: number, words: string[]): boolean {
  const text = rows.texts.map((column) => column[row]).join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}
