import assert from "node:assert/strict";
import { test } from "node:test";
import { factorsOf, leavesOf, parseBlocks, same, textOf } from "../../web/lib/blocks.js";

const range = (count) => Array.from({ length: count }, (_, at) => at);
const FLUX = [
    { name: "double", title: "Double blocks", numbers: range(19) },
    { name: "single", title: "Single blocks", numbers: range(38) },
    { name: "other", title: "All other modules", numbers: [] },
    { name: "te", title: "Text encoders", numbers: [] },
    { name: "te.clip_l", title: "CLIP-L", numbers: [] },
    { name: "te.t5xxl", title: "T5-XXL", numbers: [] },
];
const PRESETS = { style: "double=0, single.20-37=0.5", "only-style": "all=0, single=1" };
const again = (text) => textOf(factorsOf(text, FLUX, PRESETS).factors, FLUX);

test("terms are read as the node reads them", () => {
    assert.deepEqual(parseBlocks(" Double.0-9 = .5,\n te.clip_l=-1e1, style,, "), {
        error: "",
        terms: [
            { name: "double", first: 0, last: 9, value: 0.5 },
            { name: "te.clip_l", first: null, last: null, value: -10 },
            { name: "style", first: null, last: null, value: null },
        ],
    });
    assert.deepEqual(parseBlocks(""), { terms: [], error: "" });
});

test("what is not of the grammar is told", () => {
    const bad = {
        "=1": /names no block/, "double blocks=1": /names no block/, "double.9-0=1": /backwards/, "double.3": /no strength/,
        "double=": /needs a number/, "double=x": /needs a number/, "double=101": /needs a number/, "double=1e999": /needs a number/,
        "double=NaN": /needs a number/, "double=0x10": /needs a number/,
    };
    for (const [text, error] of Object.entries(bad)) assert.match(parseBlocks(text).error, error, text);
});

test("later terms win, encoders together and alone, presets are written out", () => {
    const { factors, error } = factorsOf("all=0.5, double.3-4=2, te=0, te.t5xxl=1, double.4=1", FLUX, PRESETS);
    assert.equal(error, "");
    assert.equal(factors.size, 19 + 38 + 3);
    const some = ["double.0", "double.3", "double.4", "single.37", "other", "te.clip_l", "te.t5xxl"];
    assert.deepEqual(some.map((name) => factors.get(name)), [0.5, 2, 1, 0.5, 0.5, 0, 1]);
    const styled = factorsOf("style, double.1=1", FLUX, PRESETS).factors;
    assert.deepEqual(["double.0", "double.1", "single.19", "single.20"].map((name) => styled.get(name)), [0, 1, 1, 0.5]);
});

test("names that the model lacks are told", () => {
    for (const text of ["in.3=1", "double.19=1", "double.30-40=1", "te.clip_g=0"]) {
        assert.match(factorsOf(text, FLUX, PRESETS).error, /has no blocks/, text);
    }
    assert.match(factorsOf("constructor", FLUX, PRESETS).error, /no preset/);
});

test("factors become the shortest text, and the same factors again", () => {
    const texts = {
        "": "", "all=1": "", "double.0=0.5,double.1=0.5, double.2=0.5": "double.0-2=0.5", "double.0-18=0.5": "double=0.5",
        "all=0": "all=0", "te.clip_l=0, te.t5xxl=0": "te=0", "te.clip_l=0": "te.clip_l=0", "single.3=0.5, single.5=0.5": "single.3=0.5, single.5=0.5",
        style: "double=0, single.20-37=0.5", "other=0.3333333": "other=0.333",
    };
    for (const [text, short] of Object.entries(texts)) assert.equal(again(text), short, text);
});

test("any factors survive their text", () => {
    let seed = 7;
    const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
    for (let turn = 0; turn < 200; turn++) {
        const { factors } = factorsOf("", FLUX, {});
        for (const name of factors.keys()) if (random() < 0.4) factors.set(name, Math.round(random() * 4) / 4);
        assert.deepEqual(factorsOf(textOf(factors, FLUX), FLUX, {}).factors, factors);
    }
});

test("`te` is no slider beside the encoders that it stands for", () => {
    assert.deepEqual(leavesOf(FLUX).map((group) => group.name), ["double", "single", "other", "te.clip_l", "te.t5xxl"]);
    assert.deepEqual(leavesOf(FLUX.slice(0, 4)), FLUX.slice(0, 4));
    assert.equal(same([]), null);
    assert.equal(same([1, 1]), 1);
    assert.equal(same([1, 2]), null);
});
