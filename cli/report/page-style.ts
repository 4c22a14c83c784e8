// The look of the report; light and dark, narrow and wide.

export const PAGE_STYLE = `
:root { color-scheme: light dark; --ground: #fbfaf8; --ink: #1d1f21; --soft: #6b7075; --line: #e1ded8; --accent: #0b6e99; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --ink: #e6e4e0; --soft: #9aa0a6; --line: #2c3036; --accent: #58b6dd; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 1200px; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .75rem; } h2 { font-size: 1.1rem; margin: 0 0 .25rem; } h3 { font-size: .9rem; margin: 0; }
p { margin: 0 0 .5rem; color: var(--soft); font-size: .9rem; }
section { margin-top: 2rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: .75rem; margin: 0; }
.figures dt { color: var(--soft); font-size: .8rem; } .figures dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.pair, .grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1.5rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0 1rem; padding: .75rem 1rem; border-left: 3px solid var(--accent);
  font: 14px/1.5 ui-monospace, monospace; }
summary { cursor: pointer; color: var(--soft); }
table { border-collapse: collapse; font-size: .85rem; }
th { text-align: left; font-weight: 500; color: var(--soft); padding: .1rem 1.5rem .1rem 0; vertical-align: top; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } .compared th, .compared td { padding: .15rem 1.5rem .15rem 0; white-space: nowrap; }
.compared thead th { color: var(--ink); } .compared i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .45em; }
.choice { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .25rem 0 .75rem; font-size: .9rem; }
.u-legend { font-size: .8rem; } .uplot { max-width: 100%; }
`;
