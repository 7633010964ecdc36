import assert from "node:assert/strict";
import { test } from "node:test";
import { energyCurve, kept } from "../../web/lib/energy.js";
import { cellText, groupsOf, mapText, percent } from "../../web/lib/heat.js";
import { spanText, TimeLeft } from "../../web/lib/timeleft.js";

const block = (name, relative_size, matched = 2, total = 2, norm = null) => ({ block: name, matched, total, norm, relative_size });
const BLOCKS = [
    block("img_in", 0.02), block("double_blocks.0", 0.01), block("double_blocks.1", null, 0, 4),
    block("clip_l text_model.encoder.layers.11", 0.04, 1, 2), block("", null, 0, 3),
];

test("blocks go into rows by name, those without a number last, and those without a place nowhere", () => {
    const groups = groupsOf(BLOCKS);
    assert.deepEqual(groups.map(({ name }) => name), ["double_blocks", "clip_l text_model.encoder.layers", "others"]);
    assert.deepEqual(groups[0].cells.map(({ number, value, share }) => [number, value, share]), [[0, 0.01, 0.25], [1, null, 0]]);
    assert.equal(groups[1].cells[0].share, 1);
    assert.deepEqual(groupsOf([]), []);
    assert.deepEqual(groupsOf([block("", null)]), []);
});

test("without a model's weights the blocks compare by their own size", () => {
    const cells = groupsOf([block("a.0", null, 1, 1, 3), block("a.1", null, 1, 1, 6)])[0].cells;
    assert.deepEqual(cells.map(({ share }) => share), [0.5, 1]);
    assert.equal(cellText(cells[0]), "a.0: size 3, 1 of 1 modules");
});

test("the map in words names the strongest blocks and those that are not whole", () => {
    assert.equal(mapText(BLOCKS), "4 blocks. The strongest: clip_l text_model.encoder.layers.11: Δ 4 %, 1 of 2 modules; "
        + "img_in: Δ 2 %, 2 of 2 modules; double_blocks.0: Δ 1 %, 2 of 2 modules. "
        + "Not whole: double_blocks.1: size unknown, 0 of 4 modules; clip_l text_model.encoder.layers.11: Δ 4 %, 1 of 2 modules.");
    assert.deepEqual([0.00912, 0.5, 1.234, 0].map(percent), ["0.91 %", "50 %", "123 %", "0 %"]);
});

test("the curve weighs layers by their squared norms and goes on where one has no more ranks", () => {
    const layers = [
        { norm: 2, energy: 0.9, rank: 2, curve: [[1, 0.5], [2, 1]] },
        { norm: 1, energy: 0.5, rank: 4, curve: [[1, 0.25], [4, 0.75]] },
        { norm: 1, energy: 1, rank: null, curve: [] },
    ];
    assert.deepEqual(energyCurve(layers), [{ rank: 1, share: 0.45 }, { rank: 2, share: 0.85 }, { rank: 4, share: 0.95 }]);
    assert.deepEqual(kept(layers), { energy: (0.9 * 4 + 0.5 + 1) / 6, low: 2, high: 4 });
    assert.deepEqual(energyCurve([]), []);
    assert.equal(kept([]), null);
});

test("the time left follows the rate, is unknown at first and after a new start", () => {
    const left = new TimeLeft();
    assert.equal(left.step(0, 10), null);
    assert.equal(left.step(0.05, 10.5), null);
    assert.equal(left.step(0.25, 15), 15);
    for (let second = 16; second < 60; second += 1) left.step(0.25 + (second - 15) * 0.001, second);
    assert.ok((left.step(0.3, 60) ?? 0) > 300, "the rate of late counts");
    assert.equal(left.step(0, 61), null);
    assert.equal(new TimeLeft().step(1, 1), null);
});

test("a span of time as people say it", () => {
    assert.deepEqual([0.2, 42.4, 90, 3600, 5400].map(spanText), ["1 s left", "42 s left", "2 min left", "1 h 0 min left", "1 h 30 min left"]);
});
