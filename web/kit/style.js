// @ts-check
/** The style sheet of our widgets. Colours are the host's theme, so both renderers and all palettes agree. */

import { DETAILS } from "./detailstyle.js";

export const STYLE = `
.loracore-root { width: 100%; height: 100%; }
.loracore {
    --lc-text: var(--input-text, #ddd); --lc-faint: var(--descrip-text, #999);
    --lc-field: var(--component-node-widget-background, var(--comfy-input-bg, #222));
    --lc-line: color-mix(in srgb, var(--lc-text) 16%, transparent);
    --lc-hover: color-mix(in srgb, var(--lc-text) 9%, transparent);
    --lc-accent: var(--p-primary-color, #4b8bbe); --lc-error: var(--error-text, #ff5c5c);
    --lc-good: color-mix(in srgb, #2fa866 70%, var(--lc-text)); --lc-part: color-mix(in srgb, #e29a1a 80%, var(--lc-text));
    box-sizing: border-box; width: 100%; height: 100%; overflow: hidden; pointer-events: auto; container-type: inline-size;
    color: var(--lc-text); font: 12px/1.3 Inter, system-ui, sans-serif; letter-spacing: normal; text-align: left;
}
:where(.loracore) *, :where(.loracore) *::before { box-sizing: border-box; }
:where(.loracore) :is(button, input) {
    margin: 0; padding: 0; border: 0; background: none; color: inherit; font: inherit; min-width: 0;
}
:where(.loracore) button { cursor: pointer; display: flex; align-items: center; justify-content: center; }
.dom-widget .loracore { --lc-field: var(--comfy-input-bg, #222); }
.loracore button:focus-visible, .loracore input:focus-visible, .loracore pre:focus-visible {
    outline: 1.5px solid var(--lc-accent); outline-offset: -1px;
}
.loracore svg {
    width: 14px; height: 14px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.5;
    stroke-linecap: round; stroke-linejoin: round;
}
.loracore.is-rows { --lc-numbers: 78px; --lc-badge: 64px; }
.loracore.has-clip { --lc-numbers: 78px 78px; }
.loracore-head, .loracore-row {
    display: grid; grid-template-columns: 14px 28px minmax(0, 1fr) var(--lc-badge) var(--lc-numbers) 18px 18px;
    gap: 0 6px; align-items: center;
}
.loracore-head { grid-template-columns: 14px 28px minmax(0, 1fr) var(--lc-badge) var(--lc-numbers) 42px; }
.loracore.is-scrolling .loracore-head { padding-right: 8px; }
.loracore-list { overflow: hidden; outline: none; }
.loracore.is-scrolling .loracore-list { height: 768px; overflow: hidden auto; overscroll-behavior: contain; scrollbar-width: thin; scrollbar-color: var(--lc-line) transparent; }
.loracore-lines { box-sizing: border-box; }
.loracore-head { height: 22px; color: var(--lc-faint); font-size: 11px; }
.loracore-head .is-name { padding-left: 8px; }
.loracore-head .is-number { text-align: center; }
.loracore-row { height: 28px; margin-bottom: 4px; border-radius: 6px; }
.loracore-row.is-off :is(.loracore-file, .loracore-number) { opacity: .45; }
.loracore-row.is-dragged { background: var(--lc-hover); }
.loracore-grip { height: 100%; color: var(--lc-faint); cursor: grab; opacity: .55; touch-action: none; border-radius: 4px; }
.loracore-grip svg { stroke-width: 2; }
.loracore-grip:hover, .loracore-grip:focus-visible { opacity: 1; }
.loracore-switch {
    position: relative; width: 28px; height: 16px; border-radius: 8px; background: var(--lc-line);
    transition: background .12s;
}
.loracore-switch::before {
    content: ""; position: absolute; left: 2px; top: 2px; width: 12px; height: 12px; border-radius: 50%;
    background: var(--lc-text); opacity: .65; transition: transform .12s;
}
.loracore-switch[aria-checked="true"] { background: var(--lc-accent); }
.loracore-switch[aria-checked="true"]::before { transform: translateX(12px); background: #fff; opacity: 1; }
.loracore-switch[aria-checked="mixed"]::before { transform: translateX(6px); }
.loracore-file, .loracore-number, .loracore-foot button {
    height: 26px; border-radius: 6px; background: var(--lc-field);
}
.loracore-file { padding: 0 6px 0 8px; gap: 4px; justify-content: flex-start; overflow: hidden; }
.loracore-file:hover, .loracore-foot button:hover { box-shadow: inset 0 0 0 1px var(--lc-line); }
.loracore-file svg { color: var(--lc-faint); }
.loracore-name { display: flex; flex: 1; min-width: 0; white-space: nowrap; text-align: left; }
.loracore-name .is-folder { flex: 0 1000 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; color: var(--lc-faint); }
.loracore-name .is-stem { flex: 0 1 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; }
.loracore-row.is-missing .loracore-file { box-shadow: inset 0 0 0 1px var(--lc-error); }
.loracore-row.is-missing .loracore-file :is(.is-folder, .is-stem, svg) { color: var(--lc-error); }
.loracore-number { display: grid; grid-template-columns: 18px minmax(0, 1fr) 18px; overflow: hidden; }
@container (width < 410px) {
    .loracore-body { --lc-numbers: 50px; --lc-badge: 56px; }
    .loracore.has-clip .loracore-body { --lc-numbers: 48px 48px; }
    .loracore-body .loracore-number { grid-template-columns: minmax(0, 1fr); }
    .loracore-body .loracore-number button, .loracore-remove { display: none; }
    .loracore-body .loracore-row { grid-template-columns: 14px 28px minmax(0, 1fr) var(--lc-badge) var(--lc-numbers) 18px; }
    .loracore-body .loracore-head { grid-template-columns: 14px 28px minmax(0, 1fr) var(--lc-badge) var(--lc-numbers) 18px; }
}
@container (width < 480px) {
    .loracore.has-clip .loracore-body { --lc-numbers: 48px 48px; }
    .loracore.has-clip .loracore-number { grid-template-columns: minmax(0, 1fr); }
    .loracore.has-clip .loracore-number button { display: none; }
}
@container (width < 300px) {
    .loracore-body { --lc-badge: 10px; }
    .loracore-badge span { display: none; }
    .loracore-body .loracore-badge { height: 10px; padding: 0; border-radius: 5px; background: currentColor; }
    .loracore-thumb { display: none; }
}
.loracore-number button { height: 100%; color: var(--lc-faint); }
.loracore-number button:hover { color: var(--lc-text); background: var(--lc-hover); }
.loracore-number svg { width: 12px; height: 12px; }
.loracore-number input { width: 100%; height: 100%; text-align: center; font-variant-numeric: tabular-nums; cursor: ew-resize; }
.loracore-number input:focus { cursor: text; }
.loracore-number.is-inherited input:not(:focus) { color: var(--lc-faint); font-style: italic; }
.loracore-number input[aria-invalid="true"] { color: var(--lc-error); }
:is(.loracore-remove, .loracore-more) { width: 18px; height: 22px; color: var(--lc-faint); border-radius: 5px; }
.loracore-more svg { stroke-width: 2.2; }
:is(.loracore-remove, .loracore-more):hover { color: var(--lc-text); background: var(--lc-hover); }
.loracore-remove:hover { color: var(--lc-error); }
.loracore-badge {
    height: 18px; padding: 0 6px; border-radius: 9px; font-size: 10.5px; font-variant-numeric: tabular-nums; overflow: hidden;
    color: var(--lc-faint); background: var(--lc-hover); justify-self: stretch;
}
.loracore-badge span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.loracore-badge.is-empty { background: none; }
.loracore-badge.is-good { color: var(--lc-good); background: color-mix(in srgb, var(--lc-good) 15%, transparent); }
.loracore-badge.is-part { color: var(--lc-part); background: color-mix(in srgb, var(--lc-part) 18%, transparent); }
.loracore-badge.is-bad { color: var(--lc-error); background: color-mix(in srgb, var(--lc-error) 16%, transparent); }
.loracore-badge:hover { box-shadow: inset 0 0 0 1px currentColor; }
.loracore-row.is-off .loracore-badge { opacity: .6; }
.loracore-thumb { flex: none; display: none; width: 22px; height: 22px; border-radius: 4px; overflow: hidden; background: var(--lc-hover); }
.loracore-thumb.is-filled { display: block; }
.loracore-thumb img { display: block; width: 100%; height: 100%; object-fit: cover; }
.loracore-file:has(.is-filled) { padding-left: 2px; }
.loracore-chip {
    flex: none; padding: 1px 6px; border-radius: 8px; font-size: 10px; color: var(--lc-accent);
    background: color-mix(in srgb, var(--lc-accent) 16%, transparent);
}
.loracore-foot { display: flex; gap: 6px; height: 26px; }
.loracore-foot button { padding: 0 10px; gap: 6px; white-space: nowrap; }
.loracore-foot .is-add { flex: 1; }
.loracore-foot button[aria-pressed="true"] { color: var(--lc-accent); box-shadow: inset 0 0 0 1px var(--lc-accent); }
.loracore-note { padding: 6px 2px; color: var(--lc-faint); white-space: normal; }
.loracore-note.is-error { color: var(--lc-error); }
.loracore-note:empty { display: none; }
@media (prefers-reduced-motion: reduce) { :where(.loracore) *, :where(.loracore) *::before { transition: none !important; } }
:is(.loracore-popover, .loracore-picker) {
    position: fixed; inset: auto; margin: 0; padding: 6px; border: 1px solid var(--lc-line); border-radius: 8px;
    background: var(--comfy-menu-bg, #222); color: var(--lc-text); box-shadow: 0 8px 28px #0007; pointer-events: auto;
    font-size: 13px; overflow: auto; letter-spacing: normal; text-align: left;
}
:is(.loracore-popover, .loracore-picker):popover-open { display: flex; flex-direction: column; gap: 4px; }
.loracore-popover.loracore-picker { overflow: hidden; }
.loracore-popover.is-menu { min-width: 200px; max-width: 420px; gap: 1px; }
.loracore .loracore-item { justify-content: space-between; gap: 20px; padding: 6px 10px; border-radius: 5px; text-align: left; outline: none; }
.loracore .loracore-item:focus { background: var(--lc-hover); }
.loracore .loracore-item:disabled { opacity: .4; cursor: default; }
.loracore-item.is-danger:focus { color: var(--lc-error); }
.loracore-item.has-line { position: relative; margin-top: 7px; }
.loracore-item.has-line::before { content: ""; position: absolute; inset: -4px 0 auto; height: 1px; background: var(--lc-line); }
.loracore-item > span { white-space: nowrap; }
.is-hint { color: var(--lc-faint); font-size: .88em; }
.loracore-item .is-hint { min-width: 0; overflow: hidden; text-overflow: ellipsis; direction: rtl; }
.loracore-search { display: flex; align-items: center; gap: 6px; padding: 0 8px; border-radius: 6px; background: var(--comfy-input-bg, #111); color: var(--lc-faint); }
.loracore-search:focus-within { box-shadow: inset 0 0 0 1px var(--lc-accent); }
.loracore .loracore-search input { flex: 1; height: 30px; color: var(--lc-text); outline: none; }
.loracore-options { overflow: auto; min-height: 0; overscroll-behavior: contain; }
.loracore-option { display: flex; align-items: center; gap: 6px; height: 32px; padding: 0 8px; border-radius: 5px; cursor: pointer; }
.loracore-option.is-inside { padding-left: 26px; }
.loracore-option.is-header { color: var(--lc-faint); padding-left: 4px; }
.loracore-option.is-header svg { transition: transform .1s; }
.loracore-option.is-header.is-open svg { transform: rotate(90deg); }
.loracore-option .loracore-thumb { width: 26px; height: 26px; }
.loracore-option[aria-selected="true"] { background: var(--lc-hover); }
.loracore-option.is-current .is-stem { color: var(--lc-accent); font-weight: 600; }
.loracore.is-report { display: flex; flex-direction: column; gap: 4px; }
.loracore-top { flex: none; max-height: 60%; overflow: auto; display: flex; flex-direction: column; }
.loracore-text { position: relative; flex: 1; min-height: 40px; }
.loracore-cell { display: flex; align-items: center; gap: 4px; min-width: 0; }
.loracore-cell .loracore-file { flex: 1; }
.loracore .loracore-chip.is-offer { border: 1px dashed currentColor; background: none; padding: 1px 5px; }
.loracore .loracore-chip.is-offer:hover { background: color-mix(in srgb, var(--lc-accent) 16%, transparent); }
${DETAILS}
.loracore pre {
    position: absolute; inset: 0; margin: 0; padding: 8px 10px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
    border-radius: 6px; background: var(--lc-field); color: var(--lc-text); user-select: text; cursor: text;
    font: 11px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
.loracore .loracore-copy {
    position: absolute; top: 4px; right: 4px; width: 24px; height: 24px; padding: 0; border-radius: 5px; color: var(--lc-faint);
    background: var(--lc-field); opacity: 0;
}
.loracore-copy[hidden] { display: none; }
.loracore-text:hover .loracore-copy, .loracore-copy:focus-visible { opacity: 1; }
.loracore { --lc-good: #4caf7d; --lc-amber: #d99a2b; }
.loracore .loracore-line {
    flex: none; height: 24px; padding: 0 6px; gap: 6px; justify-content: flex-start; text-align: left; border-radius: 5px;
    display: flex; align-items: center; overflow: hidden; white-space: nowrap; --lc-state: var(--lc-faint);
}
button.loracore-line:hover { background: var(--lc-hover); }
.loracore .is-full { --lc-state: var(--lc-good); }
.loracore .is-partial { --lc-state: var(--lc-amber); }
.loracore .is-none { --lc-state: var(--lc-error); }
.loracore-line .is-lamp { flex: none; width: 8px; height: 8px; border-radius: 50%; background: var(--lc-state, var(--lc-faint)); }
.loracore-line b { flex: 0 1 auto; min-width: 40px; overflow: hidden; text-overflow: ellipsis; font-weight: 600; }
.loracore-line span { flex: 1 2 auto; overflow: hidden; text-overflow: ellipsis; color: var(--lc-text); opacity: .85; }
.loracore-line.is-none span { color: var(--lc-error); opacity: 1; }
.loracore-line.is-before .is-lamp { background: none; box-shadow: inset 0 0 0 2px var(--lc-state); }
.loracore-details { padding: 12px 14px; outline: none; }
.loracore-details:popover-open { gap: 8px; }
.loracore-details :is(h3, h4, p, ul) { margin: 0; font-size: 12px; }
.loracore-details h3 { font-weight: 600; font-size: 13px; overflow-wrap: anywhere; }
.loracore-details h4 { color: var(--lc-faint); font-weight: 500; margin-bottom: 3px; }
.loracore-details p.is-none, .loracore-details p.is-partial { color: var(--lc-state); }
.loracore-details ul { padding: 0; list-style: none; max-height: 140px; overflow: auto; overflow-wrap: anywhere; user-select: text; }
.loracore-details li { font: 11px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.loracore-heat { display: flex; flex-direction: column; gap: 3px; overflow-x: auto; }
.loracore-heat-row { display: flex; align-items: flex-start; gap: 8px; }
.loracore-heat-row .is-group {
    flex: 0 0 110px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: 11px; line-height: 17px; color: var(--lc-faint);
}
.loracore .loracore-heat svg { width: auto; height: auto; stroke: none; }
.loracore-heat .is-cell { fill: color-mix(in srgb, var(--lc-accent) var(--heat), var(--lc-field)); stroke: var(--lc-line); stroke-width: 1; }
.loracore-heat .is-cell.is-partial { stroke: var(--lc-amber); stroke-width: 1.5; }
.loracore-heat .is-cell.is-none { stroke: var(--lc-error); stroke-width: 1.5; }
.loracore-legend { display: flex; align-items: center; gap: 6px; padding-left: 118px; font-size: 11px; color: var(--lc-faint); }
.loracore-legend i { width: 90px; height: 6px; border-radius: 3px; background: linear-gradient(90deg, var(--lc-field), var(--lc-accent)); }
.loracore-progress { padding: 4px 6px 8px; }
.loracore-progress .is-said { display: flex; justify-content: space-between; margin-bottom: 5px; }
.loracore-progress .is-left { color: var(--lc-faint); font-variant-numeric: tabular-nums; }
.loracore-progress [role="progressbar"] { height: 6px; border-radius: 3px; background: var(--lc-line); overflow: hidden; }
.loracore-progress [role="progressbar"] i { display: block; height: 100%; width: var(--done, 0%); border-radius: 3px; background: var(--lc-accent); }
.loracore-energy { padding: 4px 6px; }
.loracore-caption { font-size: 11px; color: var(--lc-faint); }
.loracore-top > .loracore-caption { flex: none; padding: 2px 6px; }
.loracore .loracore-curve { display: block; width: 100%; height: 84px; stroke: none; }
.loracore-curve polyline { fill: none; stroke: var(--lc-accent); stroke-width: 1.8; }
.loracore-curve .is-rule { stroke: var(--lc-line); stroke-width: 1; }
.loracore-curve .is-span { fill: color-mix(in srgb, var(--lc-accent) 22%, transparent); }
.loracore-curve .is-dot { fill: var(--lc-accent); }
.loracore-curve text { fill: var(--lc-faint); font-size: 9px; stroke: none; }
`;
