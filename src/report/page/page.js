// Moves the marks that the page was drawn with. Everything works without it, at one epsilon.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const range = document.getElementById("eps");
  const tip = document.getElementById("tip");
  let now = data.focus, pinned = null, timer = null;
  document.documentElement.classList.add("js");

  // Our own tooltip follows the epsilon; the browser's would not.
  all("svg.plot title").forEach((t) => t.parentNode.closest("[data-k]") && t.remove());

  // ---- moving to another epsilon -------------------------------------------------------------
  const planes = all("svg[data-frames]").map((svg) => {
    const frames = JSON.parse(svg.dataset.frames);
    const by = (query) => new Map(all(query, svg).map((el) => [+(el.dataset.n ?? el.dataset.k), el]));
    return { svg, frames, marks: by(".pt"), trails: by(".trail"), texts: by(".labels text"),
             stairs: svg.querySelector(".stairs"), under: svg.querySelector(".under"),
             layer: svg.querySelector(".labels") };
  });

  const NS = "http://www.w3.org/2000/svg";
  const short = (text, n) => (text.length > n ? text.slice(0, n - 9) + "…" + text.slice(-8) : text);

  function text(plane, n) {
    if (!plane.texts.has(n)) {
      const c = data.candidates[n], config = data.configs[c.k];
      const el = document.createElementNS(NS, "text");
      el.setAttribute("class", "label");
      el.dataset.n = n;
      el.dataset.k = c.k;
      const room = plane.svg.viewBox.baseVal.width > 500 ? 38 : 24;
      const epoch = config.last === n ? "" : ", epoch " + c.epoch;
      el.textContent = short(config.label, Math.max(8, room - epoch.length)) + epoch;
      plane.layer.append(el);
      plane.texts.set(n, el);
    }
    return plane.texts.get(n);
  }

  function move(plane, i) {
    const frame = plane.frames[i];
    for (const [n, x, y, low, high] of frame.at) {
      const mark = plane.marks.get(n);
      mark.style.transform = `translate(${x}px, ${y}px)`;
      const bar = mark.querySelector(".v");
      bar.setAttribute("y1", low);
      bar.setAttribute("y2", high);
      if (frame.on) mark.classList.toggle("on", frame.on.includes(n));
    }
    if (plane.stairs) plane.stairs.setAttribute("d", frame.stairs);
    if (plane.under) plane.under.setAttribute("d", frame.under);
    for (const [k, d] of frame.trails || []) plane.trails.get(k)?.setAttribute("d", d);
    for (const el of plane.texts.values()) el.style.display = "none";
    for (const [n, x, y, anchor] of frame.labels) {
      const el = text(plane, n);
      el.setAttribute("x", x);
      el.setAttribute("y", y);
      el.setAttribute("text-anchor", anchor);
      el.style.display = "";
    }
  }

  const percent = (v, digits = 1) => (v / 100).toFixed(digits) + "\u202f%";
  const interval = ([, low, high]) => (low / 100).toFixed(1) + "–" + (high / 100).toFixed(1);

  function show(i) {
    now = i;
    planes.forEach((plane) => move(plane, i));
    all(".now").forEach((line) => {
      const x = line.dataset.x.split(" ")[i];
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    });
    all(".eps").forEach((el) => (el.textContent = "ε = " + data.epsilons[i]));
    document.getElementById("shown").textContent = "ε = " + data.epsilons[i];
    all("[data-e]").forEach((el) => (el.hidden = +el.dataset.e !== i));
    all("tr.cfg[data-n]").forEach((row) => {
      const c = data.candidates[row.dataset.n], [value, low, high] = c.robust[i];
      const cell = row.querySelector(".robust"), chance = row.querySelector(".chance");
      cell.dataset.v = value;
      cell.querySelector("b").textContent = percent(value);
      const meter = cell.querySelector(".meter");
      meter.style.cssText = `--v:${value / 1e4};--l:${low / 1e4};--h:${high / 1e4}`;
      chance.dataset.v = c.p[i];
      chance.querySelector("b").textContent = percent(c.p[i], 0);
      chance.querySelector("span").classList.toggle("member", !!c.on[i]);
    });
  }

  if (range) {
    // `index.html#eps=0.1` opens at that attack strength.
    const asked = data.epsilons.indexOf(decodeURIComponent(location.hash.replace("#eps=", "")));
    range.value = asked < 0 ? now : asked;
    if (asked >= 0) show(asked);
    range.addEventListener("input", () => { stop(); show(+range.value); });
    range.addEventListener("change", () => history.replaceState(null, "", "#eps=" + encodeURIComponent(data.epsilons[now])));
    const play = document.getElementById("play");
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶"; };
    play.addEventListener("click", () => {
      if (timer) return stop();
      play.textContent = "❚❚";
      if (now === data.epsilons.length - 1) show(+(range.value = 0));
      timer = setInterval(() => {
        if (now + 1 >= data.epsilons.length) return stop();
        show(+(range.value = now + 1));
      }, 900);
    });
  }

  // ---- one configuration across all figures ----------------------------------------------------
  function highlight(k) {
    all("[data-k]").forEach((el) => {
      el.classList.toggle("dim", k !== null && +el.dataset.k !== k);
      el.classList.toggle("lit", k !== null && +el.dataset.k === k);
    });
  }

  function describe(target) {
    const k = +target.dataset.k;
    const n = target.dataset.n !== undefined ? +target.dataset.n : data.configs[k].last;
    if (n === null) return "";
    const c = data.candidates[n];
    const lines = [
      [data.configs[k].label, "name"],
      [`epoch ${c.epoch}, ${c.seeds} seed${c.seeds === 1 ? "" : "s"}`, "soft"],
      [`clean ${percent(c.clean[0])} (${interval(c.clean)})`],
      [`robust ${percent(c.robust[now][0])} (${interval(c.robust[now])}) at ε = ${data.epsilons[now]}`],
      [`on the frontier in ${percent(c.p[now], 0)} of draws`, "soft"],
    ];
    return lines.map(([line, kind]) => Object.assign(document.createElement("div"), { textContent: line, className: kind || "" }));
  }

  function place(event) {
    const { innerWidth: w, innerHeight: h } = window, box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, w - box.width - 8);
    const y = event.clientY + 18 + box.height > h ? event.clientY - box.height - 12 : event.clientY + 18;
    tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
  }

  document.addEventListener("pointerover", (event) => {
    const target = event.target.closest?.("[data-k]");
    highlight(target ? +target.dataset.k : pinned);
    const drawn = target && target.closest("svg") ? describe(target) : "";
    tip.hidden = !drawn;
    if (drawn) { tip.replaceChildren(...drawn); place(event); }
  });
  document.addEventListener("pointermove", (event) => tip.hidden || place(event));
  document.addEventListener("click", (event) => {
    if (event.target.closest("button, input, a, summary")) return;
    const target = event.target.closest("[data-k]");
    const k = target ? +target.dataset.k : null;
    pinned = k === pinned ? null : k;
    all("tr.cfg").forEach((row) => row.classList.toggle("pinned", pinned !== null && +row.dataset.k === pinned));
    highlight(pinned);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { pinned = null; highlight(null); tip.hidden = true; all(".pinned").forEach((row) => row.classList.remove("pinned")); }
  });

  // ---- the table -------------------------------------------------------------------------------
  const body = document.querySelector("table.configs tbody");
  all("table.configs th").forEach((th, column) => {
    th.querySelector("button").addEventListener("click", () => {
      const number = th.dataset.kind === "number";
      const falling = th.ariaSort ? th.ariaSort !== "descending" : number;
      all("table.configs th").forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", falling ? "descending" : "ascending");
      // A row that is not evaluated has fewer cells; it sorts last.
      const value = (row) => row.cells[column]?.dataset.v ?? "";
      const compare = (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
      const rows = all("tr", body);
      rows.sort((a, b) => (number ? (+value(a) || 0) - (+value(b) || 0) : compare(a, b)) * (falling ? -1 : 1));
      body.append(...rows);
    });
  });
  document.getElementById("more")?.addEventListener("click", (event) => {
    all(".folded").forEach((row) => row.classList.remove("folded"));
    event.target.remove();
  });
})();
