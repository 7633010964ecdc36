// @ts-check
/** What users can set of the page's part of LoRA Core: the host shows it, keeps it, and translates it (locales). */

/** @typedef {"previews" | "checks"} SettingName */

/** The settings as the host registers them; each has its name and help in `locales` for other languages. */
export const SETTINGS = [
    { id: "loracore.rows.previews", category: ["LoRA Core", "Rows", "Previews"], type: "boolean", defaultValue: true,
        name: "Show preview pictures",
        tooltip: "In the rows of Stack LoRAs and in the list of files. Pictures are read from beside the LoRA files." },
    { id: "loracore.rows.checks", category: ["LoRA Core", "Rows", "Checks"], type: "boolean", defaultValue: true,
        name: "Check LoRAs before a run",
        tooltip: "Tells at once how much of each LoRA fits the checkpoint that is wired. Only the headers of the files are read." },
];

/**
 * Whether something is on; what the host does not know yet is on.
 * @param {any} manager of the host's extensions
 * @param {SettingName} name
 */
export function isOn(manager, name) {
    return manager?.setting?.get(`loracore.rows.${name}`) !== false;
}
