import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseBlocks } from "../../web/lib/blocks.js";
import { groupsOf } from "../../web/lib/heat.js";
import { text } from "../../web/lib/i18n.js";
import { findName, searchNames, splitName } from "../../web/lib/names.js";

const WEB = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "web");
const LIMIT = 1000; // between texts of which one is 100 times as long: 100 for what is linear, 10,000 for what is quadratic
const INNOCENT = 2; // milliseconds for the longer one: what is quadratic takes twenty times as long, at the least
const LEAST = 0.01; // milliseconds for the shorter one, below which a clock tells nothing
const [SHORT, MIDDLE, LONG] = [100, 1000, 10000];
const LETTERS = [..."a0_. /-+e:={|(\"'\n,"];
const ENDS = ["", "\0", "x"];

const sources = readdirSync(WEB, { recursive: true }).filter((name) => name.endsWith(".js"))
    .map((name) => ({ name, lines: readFileSync(join(WEB, name), "utf8").split("\n") }));

/** Returns the regular expressions that stand in the sources: behind a sign after which nothing can be divided. */
function expressions() {
    const literal = /(?:^|[(=,:[!&|?{};]|return)\s*\/(?!\*)((?:[^\\/[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([a-z]*)/g;
    return sources.flatMap(({ name, lines }) => lines.flatMap((line, at) => {
        const code = /^\s*(?:\*|\/[/*])/.test(line) ? "" : line;
        return [...code.matchAll(literal)].map((found) => ({ where: `${name}:${at + 1}`, expression: new RegExp(found[1], found[2]) }));
    }));
}

function milliseconds(work, written, times) {
    let least = Infinity;
    for (let at = 0; at < times; at += 1) {
        const begin = process.cpuUsage();
        const before = performance.now();
        work(written);
        const cpu = process.cpuUsage(begin);
        least = Math.min(least, performance.now() - before, (cpu.user + cpu.system) / 1000 || Infinity);
    }
    return Math.max(least, LEAST);
}

/** Returns how many times longer the work takes for a text that is 100 times as long. */
function growth(work, make) {
    const short = milliseconds(work, make(SHORT), 3);
    const middle = milliseconds(work, make(MIDDLE), 1);
    if (middle > INNOCENT && middle / short > LIMIT) return middle / short;
    if (milliseconds(work, make(LONG), 1) < INNOCENT) return 1;
    return milliseconds(work, make(LONG), 3) / milliseconds(work, make(SHORT), 20);
}

function* worst() {
    for (const lead of ["", ...LETTERS]) {
        for (const pump of [...LETTERS, ...LETTERS.map((letter) => lead + letter), `a${lead}`]) {
            for (const end of ENDS) yield (size) => lead + pump.repeat(size / pump.length) + end;
        }
    }
}

function assertLinear(where, work) {
    for (const make of worst()) {
        const found = growth(work, make);
        assert.ok(found < LIMIT, `${where}: ${Math.round(found)} times as long for ${JSON.stringify(make(20))}`);
    }
}

test("attack 3: every regular expression of the page takes a time that grows as its text", () => {
    const found = expressions();
    assert.ok(found.length >= 5, "the expressions are not found any more");
    for (const { where, expression } of found) assertLinear(where, (written) => written.replace(expression, ""));
});

test("attack 3: no regular expression is made of a text that only the run knows", () => {
    assert.deepEqual(sources.filter(({ lines }) => lines.some((line) => /new RegExp|RegExp\(/.test(line))).map(({ name }) => name), []);
});

test("attack 3: what reads texts of strangers takes a time that grows as they do", () => {
    const readers = {
        parseBlocks,
        "parseBlocks of a number": (written) => parseBlocks(`a=${written}`),
        groupsOf: (written) => groupsOf([{ block: written, matched: 1, total: 1 }]),
        searchNames: (written) => searchNames(["a/b"], written),
        splitName,
        findName: (written) => findName(written, ["a/b"]),
        text,
    };
    for (const [name, work] of Object.entries(readers)) assertLinear(name, work);
});

test("the check finds what is quadratic", () => {
    assert.throws(() => assertLinear("", (written) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(written)), /times as long/);
    assert.throws(() => assertLinear("", (written) => written.replace(/\s+$/, "")), /times as long/);
});
