import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setLanguage, TABLES, text } from "../../web/lib/i18n.js";
import { allTexts, LANGUAGES, places, sources, tableOf, textsIn } from "./texts.mjs";

afterEach(() => setLanguage("en"));

test("a text comes in the language of the page, with its values, and in English where there is no other", () => {
    TABLES.zh["{n} of {all} in a test"] = "{all} 之 {n}";
    assert.equal(text("{n} of {all} in a test", { n: 1, all: "2" }), "1 of 2 in a test");
    for (const tag of ["zh", "zh-TW", "ZH_cn"]) {
        setLanguage(tag);
        assert.equal(text("{n} of {all} in a test", { n: 1, all: "{n}" }), "{n} 之 1");
    }
    assert.equal(text("not a text of ours {a}", { b: 1 }), "not a text of ours {a}");
    assert.equal(text("constructor"), "constructor");
    for (const tag of ["fr", "", null, undefined]) {
        setLanguage(tag);
        assert.equal(text("{n} of {all} in a test", { n: 1, all: 2 }), "1 of 2 in a test");
    }
    delete TABLES.zh["{n} of {all} in a test"];
});

test("the texts are read out of a source, and calls that nobody can read are told", () => {
    const source = 'text("a \\"b\\""), other.text("no"), context("no"), text(\n "c", {}), key("d"); // text("no")\ntext(e); ';
    assert.deepEqual(textsIn(source), { texts: ['a "b"', "c", "d"], bad: [] });
    assert.deepEqual(textsIn("text(`a ${b}`), text('c'), key(d)").bad, ["`", "'", "d"]);
});

test("every text of the page is a literal that can be translated", () => {
    for (const [name, source] of Object.entries(sources())) assert.deepEqual(textsIn(source).bad, [], name);
    assert.ok(allTexts().length > 20);
});

for (const language of LANGUAGES) {
    test(`${language} has a line for every text and none too many: node tests/web/texts.mjs --sync`, async () => {
        assert.deepEqual(Object.keys(await tableOf(language)).sort(), allTexts());
    });

    test(`${language} translates every text and keeps its placeholders`, async () => {
        for (const [english, other] of Object.entries(await tableOf(language))) {
            assert.ok(other.trim(), `not translated: ${english}`);
            assert.deepEqual(places(other), places(english), english);
        }
    });
}
