"use strict";
// The page's charts. Each is kept with what draws it, so that it is drawn anew when the colours change.

const charts = new Map();
// Steps of an axis of whole numbers.
const WHOLE = [1, 2, 5].flatMap((first) => Array.from({ length: 8 }, (_, i) => first * 10 ** i)).sort((a, b) => a - b);
const known = (values) => (values || []).filter((value) => value !== null);

/** Options shared by all charts: size, colours of the present scheme, quiet grid. */
function baseOptions(holder, xLabel, height = 260) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width: holder.clientWidth, height,
    cursor: { drag: { x: true, y: false } },
    axes: [{ ...axis, label: xLabel, labelSize: 22, size: 30, labelFont: "13px system-ui" }, { ...axis, size: 62 }],
  };
}

/** (Re)draws the chart in a holder; `draw` makes it, and is kept for the next time. */
function show(holder, draw) {
  charts.get(holder)?.chart.destroy();
  charts.set(holder, { chart: draw(holder), draw });
}

function redraw() {
  for (const [holder, { draw }] of charts) show(holder, draw);
}

/** Lines over a common x of whole numbers; `series` holds [values, label, colour's name, dash]. */
function lineChart(holder, x, xLabel, series, log) {
  const options = baseOptions(holder, xLabel);
  options.scales = { x: { time: false }, y: log ? { distr: 3 } : {} };
  options.axes[0].incrs = WHOLE;
  options.axes[1].values = (_, splits) => splits.map((value) => (value === null ? "" : number(value)));
  options.series = [
    { label: xLabel },
    ...series.map(([, label, name, dash]) => ({
      label, dash, stroke: colour(name), width: 1.5, points: { show: x.length < 2 },
      value: (_, value) => (value === null || value === undefined ? "–" : number(value)),
    })),
  ];
  // A dashed marker for a dashed curve: the legend does not rest on colour alone.
  options.legend = { markers: { width: 2, dash: (_, i) => (i > 0 && series[i - 1][3] ? "dashed" : "solid") } };
  return new uPlot(options, [x, ...series.map(([values]) => values)], holder);
}

/**
 * Bars between edges. `counts` are those of all, `over` those of a part of them, drawn in front; `onPick` is told the
 * edges of a bar that is clicked. A logarithmic axis begins below one, so that a bar of one is seen.
 */
function histogram(holder, { edges, counts, over, xLabel, names, log = false, whole = false, height = 200, format = number, onPick }) {
  const options = baseOptions(holder, xLabel, height);
  const most = Math.max(1, ...counts);
  const middle = counts.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const step = (edges[edges.length - 1] - edges[0]) / counts.length || 1;
  options.scales = {
    x: { time: false, range: [edges[0] - step * 0.25, edges[edges.length - 1] + step * 0.25] },
    y: log ? { distr: 3, range: [0.5, most * 1.5] } : { range: [0, most * 1.05] },
  };
  options.cursor.drag = { x: false, y: false };
  options.axes[0].values = (_, splits) => splits.map(format);
  if (whole) options.axes[0].incrs = WHOLE;
  options.axes[1].values = (_, splits) =>
    splits.map((value) => (value === null || value % 1 !== 0 ? "" : english(value)));
  if (log) options.axes[1].splits = () => [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter((value) => value <= most * 1.5);
  else options.axes[1].incrs = WHOLE;
  const bar = (label, name) => ({
    label, stroke: colour(name), fill: colour(name), width: 0, points: { show: false },
    paths: uPlot.paths.bars({ size: [0.94, 60], align: 0 }),
    value: (_, value) => (value === null || value === undefined ? "0" : english(value)),
  });
  options.series = [
    { label: xLabel, value: (_, x, __, i) => (i === null || i === undefined ? "–" : `${format(edges[i])} to ${format(edges[i + 1])}`) },
    bar(names[0], "--first"), ...(over ? [bar(names[1], "--rest")] : []),
  ];
  options.legend = { markers: { width: 0 } };
  const some = (values) => values.map((value) => value || null);
  const chart = new uPlot(options, [middle, some(counts), ...(over ? [some(over)] : [])], holder);
  if (onPick) {
    chart.over.classList.add("pick");
    chart.over.addEventListener("click", () => {
      const i = chart.cursor.idx;
      if (i !== null && counts[i]) onPick(edges[i], edges[i + 1]);
    });
  }
  return chart;
}

/** Counts of finite values in equal bins between their extremes, or between given ones. */
function binned(values, nBins = 30, low = null, high = null) {
  const finite = Array.from(values).filter(Number.isFinite);
  low ??= finite.reduce((a, b) => Math.min(a, b), Infinity);
  high ??= finite.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const counts = new Array(nBins).fill(0);
  for (const value of finite) counts[Math.min(nBins - 1, Math.floor(((value - low) / (high - low)) * nBins))]++;
  return { edges: spaced(low, high, nBins), counts };
}

/** n + 1 edges of n equal bins. */
function spaced(low, high, n) {
  return Array.from({ length: n + 1 }, (_, i) => low + ((high - low) * i) / n);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(() => {
  for (const [holder, { chart }] of charts) chart.setSize({ width: holder.clientWidth, height: chart.height });
}).observe(document.querySelector("main"));
