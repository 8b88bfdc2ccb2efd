// What is shown and chosen, and the regions of the page that are drawn anew when it changes.
import type { Explanation, Page, Rows, Run, Task } from "./data.ts";

export interface Filter {
  /** Of one kind only one filter holds. */
  kind: string;
  label: string;
  rows: Set<number>;
}

export type Column = "wrong" | "id" | "text" | "label" | "answer" | "sure" | "tokens";

export class App {
  run = 0;
  task = "";
  filters: Filter[] = [];
  search = "";
  sort: Column = "wrong";
  down = true;
  leaf = 0;
  /** The row that is looked into. */
  row: number | null = null;
  private readonly regions = new Map<string, { node: HTMLElement; draw: () => HTMLElement }>();

  constructor(
    readonly page: Page,
    readonly bytes: Uint8Array,
  ) {
    this.task = this.tasks()[0] ?? "";
  }

  get current(): Run {
    return this.page.runs[this.run];
  }

  get view(): Task | undefined {
    return this.current.tasks[this.task];
  }

  get rows(): Rows | null {
    return this.view?.rows ?? null;
  }

  /** Tasks of any of the runs. */
  tasks(): string[] {
    return [...new Set(this.page.runs.flatMap((run) => Object.keys(run.tasks)))];
  }

  explained(row: number): Explanation | undefined {
    return this.view?.explained[row];
  }

  /** A part of the page; `draw` makes it from what is chosen now. */
  region(name: string, draw: () => HTMLElement): HTMLElement {
    const node = draw();
    this.regions.set(name, { node, draw });
    return node;
  }

  /** Draw parts of the page anew; what had the focus has it again, if it is still there. */
  redraw(...names: string[]): void {
    const key = (document.activeElement as HTMLElement | null)?.dataset.key;
    for (const name of names) {
      const region = this.regions.get(name);
      if (!region) continue;
      const node = region.draw();
      region.node.replaceWith(node);
      region.node = node;
    }
    if (key) document.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  }

  /** Choose a run or a task, and begin with all of its rows. */
  choose(run: number, task: string): void {
    this.run = run;
    this.task = this.page.runs[run].tasks[task] ? task : (Object.keys(this.page.runs[run].tasks)[0] ?? task);
    this.filters = [];
    this.leaf = 0;
    this.row = null;
    this.redraw("bar", "mistakes", "map", "rows", "sentence");
  }

  /** Keep only rows of a group, or, chosen again, all. */
  filter(kind: string, label: string, rows: number[]): void {
    const held = this.filters.some((each) => each.kind === kind && each.label === label);
    this.filters = this.filters.filter((each) => each.kind !== kind);
    if (!held) this.filters.push({ kind, label, rows: new Set(rows) });
    this.leaf = 0;
    this.redraw("mistakes", "map", "rows");
  }

  isFiltered(kind: string, label: string): boolean {
    return this.filters.some((each) => each.kind === kind && each.label === label);
  }

  unfilter(): void {
    this.filters = [];
    this.search = "";
    this.leaf = 0;
    this.redraw("mistakes", "map", "rows");
  }

  /** Whether a row passes all filters. */
  passes(row: number): boolean {
    return this.filters.every((each) => each.rows.has(row));
  }

  open(row: number | null): void {
    this.row = row;
    this.redraw("map", "rows", "sentence");
    const heading = row === null ? null : document.getElementById("sentence-title");
    heading?.focus({ preventScroll: true });
    heading?.scrollIntoView({ block: "start", behavior: "smooth" });
  }
}
