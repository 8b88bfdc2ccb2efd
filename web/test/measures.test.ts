// What is counted over rows, beside numbers written out.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Attention, inflate, unpack, type Rows, type Task, type TokenSequence } from "../src/data.ts";
import * as measures from "../src/measures.ts";

const task = (kind: Task["kind"], classes: string[], range: [number, number] = [0, 0]): Task =>
  ({ name: "t", title: "", kind, classes, range, pair: false, rows: null, explained: {}, pooled: "first" });
const rows = (more: Partial<Rows>): Rows =>
  ({ ids: ["a", "b", "c", "d"], texts: [["One two", "two three", "x", "Y"]], answers: [0, 1, 1, 0], labels: [0, 1, 0, 1],
    tokens: [3, 4, 4, 9], map: [[], []], explained: [0, 0], all: 4, ...more });

const yesNo = task("binary", ["no", "yes"]);
const chances = [[9000, 2000, 4000, 10000], [1000, 8000, 6000, 0]];

test("confusion counts rows by label and answer", () => {
  assert.deepEqual(measures.confusion(rows({}), 2), [[1, 1], [1, 1]]);
});

test("a row is the more wrong the surer a wrong answer is", () => {
  const found = rows({ chances });
  const order = [0, 1, 2, 3].sort((a, b) => measures.wrongness(found, yesNo, b) - measures.wrongness(found, yesNo, a));
  assert.deepEqual(order, [3, 2, 1, 0]);
  assert.equal(measures.confidence(found, yesNo, 3), 1);
});

test("calibration puts a probability of 1 into the last bin", () => {
  const groups = measures.calibration(rows({ chances }), yesNo);
  assert.deepEqual(groups.map((each) => each.rows), [[], [], [], [], [], [], [2], [], [1], [0, 3]]);
  assert.equal(groups[9].value, 0.5);
  assert.ok(Math.abs((groups[9].sure ?? 0) - 0.95) < 1e-12);
  assert.ok(Math.abs(measures.calibrationError(groups) - (0.6 + 0.2 + 2 * 0.45) / 4) < 1e-12);
});

test("a bin's edges stand in the bin above", () => {
  const edge = rows({ chances: [[7000, 3000, 2999, 5000], [3000, 7000, 7001, 5000]] });
  assert.deepEqual(measures.calibration(edge, yesNo)[7].rows, [0, 1, 2]);
});

test("groups by length keep rows of one length together", () => {
  const groups = measures.byLength(rows({}), yesNo, 2);
  assert.deepEqual(groups.map((each) => [each.label, each.rows, each.value]), [["3 to 4", [0, 1, 2], 1 - 1 / 3], ["9", [3], 0]]);
});

test("groups by label, of numbers in fifths of the range", () => {
  const number = task("regression", [], [0, 5]);
  const found = rows({ labels: [0, 4.9, 5, 2.5], answers: [1, 4.9, 4, 2] });
  const groups = measures.byLabel(found, number);
  assert.deepEqual(groups.map((each) => [each.label, each.rows.length]), [["0 to 1", 1], ["2 to 3", 1], ["4 to 5", 2]]);
  assert.equal(groups[2].value, 0.5);
  assert.deepEqual(measures.byDeviation(found, number).map((each) => each.rows), [[2], [3], [1], [0]]);
});

test("of several labels each decision counts", () => {
  const several = task("labels", ["x", "y"]);
  const found = rows({ answers: [[0], [], [0, 1], [1]], labels: [[0], [1], [0], [1]] });
  assert.deepEqual(measures.decisions(found, 2), [[[2, 0], [0, 2]], [[1, 1], [1, 1]]]);
  assert.deepEqual([0, 1, 2, 3].map((row) => measures.off(found, several, row)), [0, 1, 1, 0]);
  assert.equal(measures.named(several, [0, 1]), "x, y");
  assert.equal(measures.named(several, []), "none");
});

test("entropy is that of even weights, and 0 of a single one", () => {
  assert.ok(Math.abs(measures.entropy(new Uint8Array([100, 100, 100, 100]), 2) - Math.log(2)) < 1e-9);
  assert.equal(measures.entropy(new Uint8Array([255, 0, 0, 255]), 2), 0);
});

test("a search finds all of its words in any case", () => {
  assert.ok(measures.matches(rows({}), 0, ["two", "one"]));
  assert.ok(!measures.matches(rows({}), 1, ["one"]));
});

test("a block is JSON with bytes behind it, and a page's is deflated", async () => {
  const text = new TextEncoder().encode('{"a": "é"}  ');
  const block = new Uint8Array([text.length, 0, 0, 0, ...text, 7, 8, 9, 10, 11, 12, 13, 14]);
  const { value, bytes } = unpack<{ a: string }>(block);
  assert.equal(value.a, "é");
  const sequence = { tokens: ["a", "b"], heads: 1, attention: 0 } as TokenSequence;
  assert.deepEqual([...new Attention(sequence, bytes).head(1, 0)], [11, 12, 13, 14]);
  const { deflateSync } = await import("node:zlib");
  assert.deepEqual(await inflate(deflateSync(block).toString("base64")), block);
});
