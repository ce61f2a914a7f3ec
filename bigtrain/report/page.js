"use strict";
(() => {
  const content = JSON.parse(document.getElementById("document").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const touch = matchMedia("(pointer: coarse)").matches;

  const layout = (type) => {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    return {
      margin: { l: 8, r: 14, t: 8, b: 8 }, showlegend: false, hovermode: "x unified", dragmode: touch ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 11, color: colour("--quiet") },
      hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: axis, yaxis: { ...axis, type },
    };
  };
  const options = { displaylogo: false, responsive: true, displayModeBar: false };

  // Charts are drawn when they come into sight: a hidden one has no size.
  const draw = (place) => {
    const section = place.closest("details");
    const chart = content.sections[section.dataset.section].charts[place.dataset.chart];
    const type = section.querySelector(".log input").checked ? "log" : "linear";
    Plotly.react(place, chart.figure.data, layout(type), options);
    place.dataset.drawn = "";
  };
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !("drawn" in entry.target.dataset)) draw(entry.target);
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll(".chart").forEach((place) => sight.observe(place));
  const redraw = (within) => within.querySelectorAll("[data-drawn]").forEach(draw);
  document.querySelectorAll(".log").forEach((label) => {
    label.addEventListener("click", (event) => event.stopPropagation());
    label.firstChild.addEventListener("change", () => redraw(label.closest("details")));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(document));

  // Pictures: one slider moves all runs to the same place, as near as each has one.
  const tabs = [...document.querySelectorAll(".tabs button")];
  if (!tabs.length) return;
  const slider = document.querySelector(".slide input"), output = document.querySelector(".slide output");
  const figures = [...document.querySelectorAll(".pictures figure")];
  let key = tabs[0].dataset.key, places = [];
  const show = () => {
    const kimg = places[slider.value];
    output.textContent = `${kimg} kimg`;
    figures.forEach((figure, run) => {
      const mine = content.pictures[key][run];
      figure.hidden = mine.length === 0;
      if (figure.hidden) return figure.querySelectorAll("video, audio").forEach((place) => place.pause());
      const near = mine.reduce((a, b) => (Math.abs(b.kimg - kimg) < Math.abs(a.kimg - kimg) ? b : a));
      const tag = { "data:audio": "audio", "data:video": "video" }[near.source.split("/")[0]] ?? "img";
      for (const place of figure.querySelectorAll("img, video, audio")) {
        place.hidden = place.localName !== tag;
        if (!place.hidden && place.src !== near.source) place.src = near.source;
        if (place.hidden && place.pause) place.pause();
      }
      figure.querySelector("figcaption span").textContent = `${near.kimg} kimg`;
    });
  };
  const choose = (chosen) => {
    key = chosen;
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", tab.dataset.key === key));
    places = [...new Set(content.pictures[key].flat().map((picture) => picture.kimg))].sort((a, b) => a - b);
    slider.max = places.length - 1;
    slider.value = places.length - 1;
    show();
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => choose(tab.dataset.key)));
  slider.addEventListener("input", show);
  choose(key);
})();
