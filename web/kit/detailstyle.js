// @ts-check
/** The style sheet of a row's details. */

export const DETAILS = `
.loracore-popover.is-details { padding: 10px 12px 12px; gap: 8px; overflow: hidden; font-size: 12.5px; line-height: 1.4; }
.loracore-title { display: flex; align-items: center; gap: 8px; font-size: 13px; }
.loracore-title .is-stem { font-weight: 600; }
.loracore .loracore-close { width: 24px; height: 24px; border-radius: 5px; color: var(--lc-faint); }
.loracore .loracore-close:hover { color: var(--lc-text); background: var(--lc-hover); }
.loracore-said {
    margin: 0; padding: 6px 8px; border-radius: 6px; background: var(--lc-hover); white-space: pre-line; overflow-wrap: anywhere;
    max-height: 92px; overflow: auto; flex: none; font-size: 12px;
}
.loracore-said:empty { display: none; }
.loracore-said.is-good { box-shadow: inset 3px 0 var(--lc-good); }
.loracore-said.is-part { box-shadow: inset 3px 0 var(--lc-part); }
.loracore-said.is-bad { box-shadow: inset 3px 0 var(--lc-error); }
.loracore-tabs { display: flex; gap: 2px; border-bottom: 1px solid var(--lc-line); flex: none; }
.loracore-tabs:empty { display: none; }
.loracore .loracore-tabs button { padding: 5px 10px 6px; color: var(--lc-faint); border-bottom: 2px solid transparent; margin-bottom: -1px; }
.loracore .loracore-tabs button:hover { color: var(--lc-text); }
.loracore .loracore-tabs button[aria-selected="true"] { color: var(--lc-text); border-bottom-color: var(--lc-accent); }
.loracore-panel { overflow: auto; min-height: 0; overscroll-behavior: contain; outline-offset: 2px; scrollbar-width: thin; scrollbar-color: var(--lc-line) transparent; }
.loracore-fields { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; }
.loracore-fields.is-top { align-items: flex-start; flex-wrap: nowrap; }
.loracore .loracore-field { height: 28px; padding: 0 8px; border: 1px solid transparent; border-radius: 6px; background: var(--lc-hover); color: var(--lc-text); font: inherit; }
.loracore input.loracore-field { flex: 1; }
.loracore .loracore-field[aria-invalid="true"] { border-color: var(--lc-error); }
.loracore .loracore-plain { min-height: 28px; padding: 3px 10px; border-radius: 6px; background: var(--lc-hover); max-width: 100%; overflow-wrap: anywhere; }
.loracore .loracore-plain:hover { box-shadow: inset 0 0 0 1px var(--lc-line); }
.loracore-blocks, .loracore-words, .loracore-pair, .loracore-information { display: flex; flex-direction: column; gap: 8px; padding: 2px; }
.loracore-panel p { margin: 0; }
.loracore-group { border-radius: 6px; }
.loracore-group summary { cursor: pointer; list-style: none; position: relative; }
.loracore-group summary::before { content: "›"; position: absolute; left: 2px; top: 3px; color: var(--lc-faint); transition: transform .1s; }
.loracore-group[open] summary::before { transform: rotate(90deg); }
.loracore-slider { display: grid; grid-template-columns: 130px minmax(0, 1fr) 44px; gap: 8px; align-items: center; height: 26px; padding-left: 14px; }
.loracore-slider > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.loracore-slider output { text-align: right; font-variant-numeric: tabular-nums; color: var(--lc-faint); }
.loracore-slider input { width: 100%; height: 16px; margin: 0; accent-color: var(--lc-faint); cursor: pointer; }
.loracore-slider input.is-changed { accent-color: var(--lc-accent); }
.loracore-slider:has(.is-changed) output { color: var(--lc-text); }
.loracore-numbers { display: grid; grid-template-columns: 1fr 1fr; gap: 0 14px; padding: 2px 0 6px 14px; }
.loracore-numbers .loracore-slider { grid-template-columns: 20px minmax(0, 1fr) 32px; padding: 0; gap: 6px; color: var(--lc-faint); }
.loracore-words .loracore-plain { align-self: flex-start; }
.loracore-chips { display: flex; flex-wrap: wrap; gap: 6px; }
.loracore .loracore-copier { flex: none; padding: 2px 6px; gap: 6px; border-radius: 6px; color: var(--lc-text); }
.loracore .loracore-copier.is-word { min-height: 26px; max-width: 100%; padding: 2px 9px; border-radius: 13px; background: var(--lc-hover); overflow-wrap: anywhere; text-align: left; }
.loracore .loracore-copier:hover { box-shadow: inset 0 0 0 1px var(--lc-line); }
.loracore .loracore-copier.is-done { color: var(--lc-good); box-shadow: inset 0 0 0 1px var(--lc-good); }
.loracore-offstage { position: fixed; opacity: 0; width: 1px; height: 1px; }
.loracore-facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 12px; margin: 0; flex: 1; min-width: 0; align-items: center; }
.loracore-facts dt { color: var(--lc-faint); }
.loracore-facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.loracore-facts dd.is-hash { display: flex; align-items: center; gap: 4px; font-variant-numeric: tabular-nums; }
.loracore-facts .loracore-number { width: 100px; background: var(--lc-hover); }
.loracore-information .loracore-thumb { width: 96px; height: 96px; border-radius: 8px; }
.loracore-panel .loracore-description { white-space: pre-line; overflow-wrap: anywhere; max-height: 120px; overflow: auto; color: var(--lc-faint); }
.loracore-panel h4 { margin: 4px 0 0; font: inherit; color: var(--lc-faint); }
.loracore-chart { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 3px; }
.loracore-chart li { display: grid; grid-template-columns: 40% minmax(0, 1fr) 42px; gap: 8px; align-items: center; }
.loracore-chart .is-tag { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.loracore-chart .is-track { height: 6px; border-radius: 3px; background: var(--lc-hover); }
.loracore-chart .is-bar { display: block; height: 100%; border-radius: 3px; background: var(--lc-accent); }
.loracore-chart .is-hint { text-align: right; font-variant-numeric: tabular-nums; }
.loracore-metadata summary { cursor: pointer; color: var(--lc-faint); }
.loracore-metadata table { width: 100%; border-collapse: collapse; font-size: 11.5px; table-layout: fixed; }
.loracore-metadata :is(th, td) { text-align: left; vertical-align: top; padding: 3px 6px 3px 0; border-top: 1px solid var(--lc-line); overflow-wrap: anywhere; font-weight: normal; user-select: text; }
.loracore-metadata th { width: 40%; color: var(--lc-faint); }
`;
