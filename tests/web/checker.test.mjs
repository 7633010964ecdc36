import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Checker } from "../../web/lib/checker.js";
import { newRow } from "../../web/lib/rows.js";

/** A page that keeps what it was asked, and answers when the test says so. */
function scene(asker = {}) {
    const made = { asked: [], taken: [], changed: () => {}, model: "a.safetensors", rows: [newRow("x")] };
    const page = {
        onGraphChange: (listener, signal) => {
            made.changed = () => !signal.aborted && listener();
        },
        post: (route, body, signal) => new Promise((answer, fail) => {
            made.asked.push({ route, model: body.model, names: body.rows.map((row) => row.name), answer, fail });
            signal.addEventListener("abort", () => fail(new DOMException("stopped", "AbortError")));
        }),
    };
    made.checker = new Checker(page, {
        question: () => made.rows.length ? { model: made.model, rows: made.rows.map((row) => ({ ...row })) } : null,
        keyOf: (row) => row.name, take: (answer) => made.taken.push(answer), ...asker,
    });
    return made;
}

async function pass(milliseconds = 250) {
    mock.timers.tick(milliseconds);
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

beforeEach(() => {
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout"] });
});

test("changes in a row are one question, and the same question is not asked twice", async () => {
    const made = scene();
    made.checker.start();
    await pass(200);
    made.changed();
    await pass(200);
    assert.deepEqual(made.asked, []);
    await pass(50);
    assert.deepEqual(made.asked.map(({ route, names }) => [route, names]), [["/lora-core/check", ["x"]]]);
    made.asked[0].answer({ rows: ["fits"] });
    made.rows[0].strength = 0.5; // no part of the key
    made.changed();
    await pass();
    assert.deepEqual([made.asked.length, made.taken], [1, [{ rows: ["fits"] }]]);
    made.checker.refresh();
    await pass();
    assert.equal(made.asked.length, 2);
});

test("an answer that comes too late is not taken", async () => {
    const made = scene();
    made.checker.start();
    await pass();
    made.rows = [newRow("y")];
    made.changed();
    await pass();
    made.asked[0].answer({ rows: ["of x"] });
    made.asked[1].answer({ rows: ["of y"] });
    await pass();
    assert.deepEqual(made.taken, [{ rows: ["of y"] }]);
});

test("what a run told is not asked, until something changes", async () => {
    const made = scene();
    made.checker.start();
    await pass();
    made.checker.settle();
    made.asked[0].answer({ rows: ["before"] });
    made.changed();
    await pass();
    assert.deepEqual([made.asked.length, made.taken], [1, []]);
    made.model = "b.safetensors";
    made.changed();
    await pass();
    assert.deepEqual(made.asked.map(({ model }) => model), ["a.safetensors", "b.safetensors"]);
});

test("a node that shows a result as it comes does not ask; one that left and came again does", async () => {
    let knows = true;
    const made = scene({ knows: () => knows });
    made.checker.start();
    await pass();
    assert.equal(made.asked.length, 0);
    made.checker.stop();
    made.changed();
    await pass();
    assert.equal(made.asked.length, 0);
    knows = false;
    made.checker.start();
    await pass();
    assert.equal(made.asked.length, 1);
});

test("without a question, and after an error, there is no answer", async () => {
    const said = mock.method(console, "debug", () => {});
    const made = scene();
    made.checker.start();
    await pass();
    made.asked[0].fail(new Error("half a file"));
    await pass();
    made.rows = [];
    made.changed();
    await pass();
    assert.deepEqual([made.asked.length, made.taken, said.mock.callCount()], [1, [null, null], 1]);
    said.mock.restore();
});

for (const filesAlone of [true, false]) {
    test(`of a model that is not there, the files are ${filesAlone ? "" : "not "}asked for alone`, async () => {
        const made = scene({ filesAlone });
        made.checker.start();
        await pass();
        made.asked[0].answer({ error: "no such checkpoint" });
        await pass();
        made.asked[1]?.answer({ rows: ["there"] });
        await pass();
        assert.deepEqual(made.asked.map(({ model }) => model), ["a.safetensors", ...(filesAlone ? [null] : [])]);
        assert.deepEqual(made.taken, [filesAlone ? { rows: ["there"] } : { error: "no such checkpoint" }]);
    });
}
