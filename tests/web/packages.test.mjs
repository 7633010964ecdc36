import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("the lock file names versions and digests, and no address", () => {
    const lock = readFileSync(new URL("package-lock.json", import.meta.url), "utf8");
    assert.match(lock, /"integrity": "sha512-/);
    assert.doesNotMatch(lock, /resolved|https?:/);
});
