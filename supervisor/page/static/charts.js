// The curves of a run, drawn by uPlot: each metric over all attempts, with crashes and moves marked.
// Without this script, or where it fails, the pictures that the server has drawn stay.
"use strict";

(() => {
  const place = document.getElementById("curves");
  if (!place || typeof uPlot === "undefined") return;

  const SHOWN_S = { "1h": 3600, "24h": 86400, "7d": 7 * 86400 };
  const HEIGHT = 180;
  const RENEW_MS = 30000;
  const spans = document.getElementById("curve-spans");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sync = uPlot.sync("curves");
  let shown = "steps";
  let known = null;
  let drawn = [];

  async function load() {
    const pixels = Math.min(1200, Math.max(200, place.clientWidth));
    const by = shown === "steps" ? "step" : "time";
    const answer = await fetch(`${place.dataset.curves}?by=${by}&points=${pixels}`);
    if (!answer.ok) return;
    known = await answer.json();
    draw();
  }

  function range() {
    const seconds = SHOWN_S[shown];
    const last = Math.max(...known.curves.map((curve) => curve.points.x.at(-1) ?? -Infinity));
    return seconds && Number.isFinite(last) ? [last - seconds, last] : null;
  }

  function draw() {
    drawn.forEach((chart) => chart.destroy());
    place.replaceChildren();
    const span = range();
    drawn = known.curves.filter((curve) => curve.points.x.length > 1).map((curve) => chart(curve, span));
  }

  // As many digits as tell each number on an axis from the next one.
  function values(_chart, ticks) {
    for (let digits = 1; ; digits += 1) {
      const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 + digits });
      const told = ticks.map((tick) => (tick && Math.abs(tick) < 1e-3 ? tick.toExponential(digits) : short.format(tick)));
      if (digits === 5 || new Set(told).size === told.length) return told;
    }
  }

  function chart(curve, span) {
    const box = document.createElement("figure");
    const title = document.createElement("figcaption");
    title.textContent = curve.last === null ? curve.name : `${curve.name}, last ${Number(curve.last.toPrecision(4))}`;
    box.append(title);
    place.append(box);
    const ink = colour("--quiet");
    const axis = { stroke: ink, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const x = { time: known.by === "time" };
    if (span) x.range = (_chart, low, high) => (low < high ? [Math.max(low, span[0]), high] : span);
    const made = new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        scales: { x },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        cursor: { sync: { key: sync.key }, drag: { x: true, y: false } },
        legend: { live: true },
        series: [
          { label: known.by === "time" ? "UTC" : "step" },
          { label: curve.name, stroke: colour("--link"), width: 1.5, points: { show: false }, spanGaps: false },
        ],
        axes: [{ ...axis, size: 34, ...(x.time ? {} : { values }) }, { ...axis, size: 60, values }],
        plugins: [marks(), touch()],
      },
      [curve.points.x, curve.points.y],
      box,
    );
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", title.textContent);
    return made;
  }

  // A crash is a full line, a death of the trainer a dashed one, a move to another mode a dotted
  // one: told apart without colours, and each in words in the list below.
  function marks() {
    const dashes = { crash: [], death: [6, 4], move: [2, 4], start: [1, 6] };
    return {
      hooks: {
        draw(chart) {
          const { ctx, bbox } = chart;
          ctx.save();
          ctx.lineWidth = devicePixelRatio;
          for (const mark of known.marks || []) {
            const where = known.by === "time" ? mark.at : mark.step;
            if (where === null || where < chart.scales.x.min || where > chart.scales.x.max) continue;
            const at = Math.round(chart.valToPos(where, "x", true));
            ctx.strokeStyle = colour(mark.what === "crash" || mark.what === "death" ? "--bad" : "--quiet");
            ctx.setLineDash((dashes[mark.what] || []).map((length) => length * devicePixelRatio));
            ctx.beginPath();
            ctx.moveTo(at, bbox.top);
            ctx.lineTo(at, bbox.top + bbox.height);
            ctx.stroke();
          }
          ctx.restore();
        },
      },
    };
  }

  // uPlot knows a mouse alone. Two fingers zoom, one that goes sideways moves what is zoomed;
  // one that goes up or down scrolls the page, as everywhere.
  function touch() {
    return {
      hooks: {
        ready(chart) {
          let from = null;
          const at = (one) => one.clientX - chart.over.getBoundingClientRect().left;
          const begin = (event) => {
            const { min, max } = chart.scales.x;
            from = { min, max, fingers: [...event.touches].map(at) };
          };
          chart.over.addEventListener("touchstart", begin, { passive: true });
          chart.over.addEventListener("touchend", begin, { passive: true });
          chart.over.addEventListener(
            "touchmove",
            (event) => {
              if (!from || event.touches.length !== from.fingers.length) return;
              const now = [...event.touches].map(at);
              const width = chart.over.clientWidth;
              const perPixel = (from.max - from.min) / width;
              let { min, max } = from;
              if (now.length === 2) {
                const [before, after] = [from.fingers, now].map(([a, b]) => Math.max(20, Math.abs(a - b)));
                const middle = from.min + perPixel * ((from.fingers[0] + from.fingers[1]) / 2);
                min = middle - (middle - from.min) * (before / after);
                max = middle + (from.max - middle) * (before / after);
              } else {
                const moved = perPixel * (now[0] - from.fingers[0]);
                min -= moved;
                max -= moved;
              }
              drawn.forEach((one) => one.setScale("x", { min, max }));
            },
            { passive: true },
          );
        },
      },
    };
  }

  spans.hidden = false;
  spans.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    shown = button.dataset.span;
    for (const one of spans.querySelectorAll("button")) {
      one.setAttribute("aria-pressed", String(one === button));
    }
    load();
  });

  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    drawn.forEach((one) => one.setSize({ width, height: HEIGHT }));
  }).observe(place);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => known && draw());

  // Whoever has zoomed looks at something: it is not taken away under their eyes.
  const zoomed = () => drawn.some((one) => one.scales.x.max - one.scales.x.min < 0.999 * (one.data[0].at(-1) - one.data[0][0]));
  setInterval(() => {
    if (!document.hidden && place.dataset.lives === "yes" && !(shown in SHOWN_S) && !zoomed()) load().catch(() => {});
  }, RENEW_MS);
  load().catch(() => {});
})();
