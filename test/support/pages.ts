// Runs the script of a page of charts without a browser.

import { runInNewContext } from 'node:vm';
import { expect } from 'vitest';

/** What a page drew. */
export interface Drawn {
  /** Columns of each chart, by its element. */
  readonly charts: Map<string, (number | null)[][]>;
  /** Names of a chart's curves. */
  readonly labels: Map<string, string[]>;
  readonly rectangles: number;
  /** Makes a choice among radio buttons. */
  choose(value: string): void;
}

/** uPlot's: one column of all the x, each table's columns with nothing where it has no point. */
function join(tables: number[][][]): (number | null)[][] {
  const all = [...new Set(tables.flatMap(([across]) => across))].sort((a, b) => a - b);
  const columns = tables.flatMap(([across, ...rest]) =>
    rest.map((column) => all.map((x) => (across.includes(x) ? column[across.indexOf(x)] : null))),
  );
  return [all, ...columns];
}

/** Runs the page's own script (the last one) with stand-ins for the browser. */
export function draw(page: string): Drawn {
  const script = page.slice(page.lastIndexOf('<script>') + '<script>'.length, page.lastIndexOf('</script>'));
  const charts: Drawn['charts'] = new Map();
  const labels: Drawn['labels'] = new Map();
  let rectangles = 0;
  const context = { scale: () => {}, fillRect: () => rectangles++ };
  const element = () => ({ style: {}, append() {}, addEventListener() {}, getContext: () => context });
  class Plot {
    static readonly join = join;
    constructor(options: { series: { label: string }[] }, data: number[][], host: { id: string }) {
      expect(data.length).toBe(options.series.length);
      for (const column of data) expect(column.length).toBe(data[0].length);
      charts.set(host.id, data);
      labels.set(
        host.id,
        options.series.map(({ label }) => label),
      );
    }
  }
  const listeners = new Map<string, () => void>();
  const inputs = [...page.matchAll(/<input type="radio" name="by" value="(\w+)"/g)].map(([, value]) => ({
    value,
    addEventListener: (_: string, listener: () => void) => void listeners.set(value, listener),
  }));
  runInNewContext(script, {
    uPlot: Plot,
    document: {
      documentElement: {},
      createElement: element,
      querySelectorAll: () => inputs,
      getElementById: (id: string) =>
        page.includes(`id="${id}"`) ? { id, clientWidth: 600, append() {}, replaceChildren() {} } : null,
    },
    getComputedStyle: () => ({ getPropertyValue: () => '#000000' }),
    matchMedia: () => ({ matches: false, addEventListener() {} }),
    addEventListener: () => {},
    devicePixelRatio: 1,
  });
  return { charts, labels, rectangles, choose: (value) => listeners.get(value)!() };
}
