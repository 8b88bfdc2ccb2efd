// What a page is about, as Python writes it: multitask/inside/{told,answered,packed}.py.

export type Value = number | number[];
export type Neighbour = [token: string, row: number, before: string, after: string, cosine: number];

export interface TokenSequence {
  tokens: string[];
  special: number[];
  segments: number[];
  layers: number;
  heads: number;
  /** Where its attention begins among the bytes. */
  attention: number;
  gradient: number[];
  integrated: number[];
  /** (layers, tokens): how much of each token has come to the pooled vector. */
  path: number[][];
  neighbours: Neighbour[][] | null;
}

export interface Explanation {
  texts: string[];
  cut: boolean;
  outputs: number[];
  chances: number[] | null;
  answer: Value;
  /** After 0, 1, ... layers: probabilities, or the number of a regression. */
  layers: number[][];
  target: number;
  output: number;
  baseline: number;
  error: number;
  sequences: TokenSequence[];
}

export interface Rows {
  ids: string[];
  /** The first texts, and of pairs the second ones. */
  texts: string[][];
  answers: Value[];
  labels: Value[] | null;
  tokens: number[];
  map: [number[], number[]];
  explained: [number, number];
  /** How many rows the split has. */
  all: number;
  /** By class, in 1/10,000. */
  chances?: number[][];
}

export interface Task {
  name: string;
  title: string;
  kind: "classes" | "binary" | "regression" | "labels" | "tokens";
  classes: string[];
  range: [number, number];
  pair: boolean;
  rows: Rows | null;
  explained: Record<string, Explanation>;
  pooled: "all" | "first";
}

export interface Score {
  metric: string;
  score: number;
  constant?: number | null;
  before?: number;
  interval?: [number, number];
  rows?: number;
}

export type Point = [x: number, y: number];

export interface Run {
  name: string;
  finished: boolean;
  settings: [name: string, value: string, isDefault: boolean][];
  facts: {
    best_epoch?: number; epochs?: number; steps?: number; seconds?: number;
    peak_memory_mb?: number; device?: string; threads?: number;
    parameters?: { trained: number; all: number };
    rows?: Record<string, Record<string, number>>;
  };
  scores: Record<string, Score[]>;
  doubts: Record<string, string>;
  curves: {
    loss: Record<string, Point[]>;
    rate: Point[];
    scores: { epoch: number; step: number; scores: Record<string, Record<string, number>> }[];
  };
  tasks: Record<string, Task>;
}

export interface Live {
  /** Of each run, whether it answers [MASK]. */
  masks: boolean[];
}

export interface Page {
  version: string;
  runs: Run[];
  live: Live | null;
}

/** JSON with the bytes that it refers to: see packed.py. */
export interface Block<T> {
  value: T;
  bytes: Uint8Array;
}

export function unpack<T>(data: Uint8Array): Block<T> {
  const length = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  const text = new TextDecoder().decode(data.subarray(4, 4 + length));
  return { value: JSON.parse(text) as T, bytes: data.subarray(4 + length) };
}

/** The block of a page, which is deflated and written as base64. */
export async function inflate(base64: string): Promise<Uint8Array> {
  const binary = atob(base64);
  const packed = new Uint8Array(binary.length);
  for (let n = 0; n < binary.length; n++) packed[n] = binary.charCodeAt(n);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A sequence with the attention of its heads. */
export class Attention {
  readonly size: number;
  constructor(
    private readonly sequence: TokenSequence,
    private readonly bytes: Uint8Array,
  ) {
    this.size = sequence.tokens.length;
  }

  /** (S, S) of a head, in 1/255, row by row. */
  head(layer: number, head: number): Uint8Array {
    const cells = this.size * this.size;
    const start = this.sequence.attention + (layer * this.sequence.heads + head) * cells;
    return this.bytes.subarray(start, start + cells);
  }
}
