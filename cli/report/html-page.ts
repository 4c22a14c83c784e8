// A page of charts that needs no network: style, uPlot, the data and the script stand inside it.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CHART_SCRIPT } from './chart-script.ts';
import { PAGE_STYLE } from './page-style.ts';

export interface HtmlPage {
  /** Plain text. */
  readonly title: string;
  readonly header: string;
  readonly main: string;
  /** What the script finds as DATA. */
  readonly data: unknown;
  readonly script: string;
}

export function htmlPage({ title, header, main, data, script }: HtmlPage): string {
  // text among the data could end the script element that it stands in
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${readUplot('uPlot.min.css')}${PAGE_STYLE}</style>
</head>
<body>
<header>${header}</header>
<main>
${main}
</main>
<script>${readUplot('uPlot.iife.min.js')}</script>
<script>const DATA = ${json};
${CHART_SCRIPT}${script}</script>
</body>
</html>
`;
}

/** Text as it may stand between tags and in attributes. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function readUplot(file: string): string {
  const folder = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  return readFileSync(join(folder, 'dist', file), 'utf8').replaceAll('</script', '<\\/script');
}
