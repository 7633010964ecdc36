import assert from "node:assert/strict";
import { test } from "node:test";
import { locator, meant, targetOf, told, withRows } from "../../web/lib/importing.js";

test("what a node can become", () => {
    assert.equal(targetOf({ type: "Power Lora Loader (rgthree)" }), "loracore");
    assert.equal(targetOf({ type: "LoraLoaderModelOnly" }), "loracore");
    assert.equal(targetOf({ type: "LoraCoreStack" }), "builtin");
    assert.equal(targetOf({ type: "KSampler" }), null);
    assert.equal(targetOf({ type: null }), null);
});

test("a menu means all selected nodes that go the same way", () => {
    const [first, second, ours] = ["LoraLoader", "CR LoRA Stack", "LoraCoreLoad"].map((type) => ({ type }));
    assert.deepEqual(meant(first, [second, ours, first]), [second, first]);
    assert.deepEqual(meant(first, [second]), [first]);
    assert.deepEqual(meant(ours, []), [ours]);
});

test("a node inside a subgraph is named after it", () => {
    const root = { isRootGraph: true, id: "top" };
    assert.equal(locator({ id: 7, graph: root }), "7");
    assert.equal(locator({ id: 7, graph: { isRootGraph: false, rootGraph: root, id: "inner" } }), "inner:7");
    assert.equal(locator({ id: 7 }), "7");
});

test("what was done, and every note", () => {
    const done = told({ converted: 2, notes: ["a", "b"] }, "loracore");
    assert.deepEqual([done.severity, done.summary, done.detail], ["success", "Converted to LoRA Core: 2", "• a\n• b"]);
    const nothing = told({ converted: 0, notes: [] }, "builtin");
    assert.deepEqual([nothing.severity, nothing.summary, nothing.detail], ["info", "Nothing to convert", ""]);
});

test("rows are added at the end, and the rest of the value stays", () => {
    const value = { v: 1, rows: [{ name: "a" }], more: 2 };
    assert.deepEqual(withRows(value, [{ name: "b" }]), { v: 1, rows: [{ name: "a" }, { name: "b" }], more: 2 });
    assert.deepEqual(value.rows, [{ name: "a" }]);
    assert.deepEqual(withRows(null, [{ name: "b" }]), { v: 1, rows: [{ name: "b" }] });
});
