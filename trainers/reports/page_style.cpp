#include "trainers/reports/page.h"

namespace reverie {

// Series colours after Okabe and Ito's palette for all kinds of colour vision, darkened on light
// ground and lightened on dark so that lines and text reach a contrast of about 4.5.
const char* const kPageStyle = R"css(:root {
  color-scheme: light dark;
  --ground: #fbfaf7; --panel: #ffffff; --ink: #1c1d1f; --quiet: #5d6066; --rule: #dcd9d2;
    --grid: #ebe8e1;
  --leak: #b3300a; --causal: #00694d; --warn-ground: #fdf3dc; --warn-rule: #d9a521;
  --s0: #0b4478; --s1: #2377b3; --s2: #c2410c; --s3: #007a5a; --s4: #94408f; --s5: #7a6200;
    --s6: #a3174f; --s7: #4d5560; --none: #85888e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --panel: #1c1f23; --ink: #e9e7e2; --quiet: #a2a6ad; --rule: #373b41;
      --grid: #2a2e33;
    --leak: #ff9468; --causal: #4fd0a5; --warn-ground: #2c2614; --warn-rule: #a98428;
    --s0: #5aa7f0; --s1: #a9d9f7; --s2: #ff8a55; --s3: #3fc99c; --s4: #dc9ce0; --s5: #dfc14b;
      --s6: #ff8fb3; --s7: #b9c0ca; --none: #8b9098;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial,
    sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 2.2rem 1.25rem 4rem; }
h1 { font-size: clamp(1.55rem, 1.1rem + 1.9vw, 2.3rem); line-height: 1.15;
  letter-spacing: -0.015em; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 0.7rem; }
h3 { font-size: 1rem; margin: 0; }
section { margin-top: 2.6rem; }
p { margin: 0 0 0.8rem; }
.lead { font-size: 1.1rem; line-height: 1.6; max-width: 48em; }
.quiet { color: var(--quiet); font-size: 0.875rem; }
p.quiet { max-width: 62em; margin: 0.7rem 0 0; }
.notice { border-left: 4px solid var(--rule); background: var(--panel); max-width: 54em;
  padding: 0.5rem 0.9rem; }
.warning { border-color: var(--warn-rule); background: var(--warn-ground); }
.leaks { display: inline-block; font-size: 0.68em; font-weight: 700; letter-spacing: 0.05em;
  line-height: 1.4; color: var(--leak); border: 1px solid currentColor; border-radius: 3px; padding: 0 0.35em;
    vertical-align: 0.12em; }
.causal { color: var(--causal); font-weight: 600; }

.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--panel); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0.55rem; text-align: left; white-space: nowrap; }
thead th { font-size: 0.8rem; font-weight: 600; line-height: 1.3; color: var(--quiet);
  vertical-align: bottom; white-space: normal; min-width: 4.2em; }
tbody tr:first-child > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 600; }
.number { text-align: right; }
.model { position: sticky; left: 0; z-index: 1; background: var(--panel); }
tbody tr:hover > * { background: var(--grid); }

.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; margin: 0 0 0.9rem;
  padding: 0; font-size: 0.9rem; }
.legend li { display: flex; align-items: baseline; gap: 0.45rem; }
.swatch { width: 28px; height: 10px; flex: none; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 1rem; }
.panel { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px;
  padding: 0.7rem 0.6rem 0.4rem; max-width: 500px; }
.panel svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; font-size: 11px; fill: var(--ink); }
svg .title { font-size: 13px; font-weight: 600; }
svg .unit { font-size: 11px; font-weight: 400; }
svg .tick, svg .note, svg .unit { fill: var(--quiet); }
svg .note, svg .value, svg .row { paint-order: stroke; stroke: var(--panel); stroke-width: 3px;
  stroke-linejoin: round; }
svg .right { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .row { font-weight: 600; }
svg .mark { fill: var(--leak); font-weight: 700; font-size: 9.5px; letter-spacing: 0.04em; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--quiet); }
svg .reference { stroke: var(--quiet); stroke-dasharray: 2 3; }
svg .leader { stroke: var(--series); stroke-width: 0.8; opacity: 0.7; }
svg .end { fill: var(--series); font-weight: 600; }
svg .end.mark { fill: var(--leak); }
svg path { fill: none; stroke: var(--series); stroke-linejoin: round; stroke-linecap: round; }
svg .mean { stroke-width: 1.8; }
svg .run { stroke-width: 0.8; opacity: 0.45; }
svg .dashed { stroke-dasharray: 5 3.5; stroke-linecap: butt; }
svg .filled { fill: var(--series); stroke: var(--series); }
svg .outlined { fill: var(--series); fill-opacity: 0.18; stroke: var(--series); }
svg .deviation { stroke: var(--ink); stroke-width: 1.2; }
.series-0 { --series: var(--s0); } .series-1 { --series: var(--s1); }
.series-2 { --series: var(--s2); } .series-3 { --series: var(--s3); }
.series-4 { --series: var(--s4); } .series-5 { --series: var(--s5); }
.series-6 { --series: var(--s6); } .series-7 { --series: var(--s7); }
.series-none { --series: var(--none); }

.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 1rem; align-items: start; }
article { background: var(--panel); border: 1px solid var(--rule);
  border-top: 3px solid var(--series); border-radius: 8px; padding: 0.8rem 0.9rem; min-width: 0; }
article .quiet { margin: 0.1rem 0 0.5rem; }
pre { margin: 0; font: 0.82rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 21em; overflow-y: auto; }
details { margin-top: 0.7rem; }
summary { cursor: pointer; color: var(--quiet); font-size: 0.875rem; }
.notes { margin: 0; padding-left: 1.2rem; max-width: 62em; }
.notes li { margin-bottom: 0.4rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.3rem 1.2rem;
  margin: 0; font-size: 0.9rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 520px) {
  main { padding: 1.4rem 0.9rem 3rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 0.5rem; }
}
@media print { .scroll { overflow: visible; } pre { max-height: none; } }
)css";

}  // namespace reverie
