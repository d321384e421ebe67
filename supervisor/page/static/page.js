// The page is whole without this. It adds life: what changes is told by one stream of events and
// put where it stands. Nothing here reads a sentence, and no text ever becomes HTML but the parts
// that the server of this page has rendered, in which everything is escaped.
"use strict";

(() => {
  const SILENT_MS = 40000; // a stream that has said nothing for so long is cut, whatever it claims
  const REST_MS = 1000; // before the first try to open it again; doubled until REST_MAX_MS
  const REST_MAX_MS = 30000;
  const SHOT_MS = 1000; // between two pictures of a game
  const LINES_MS = 1000; // between two looks at an output
  const LINES_MAX = 2000; // of an output that stay on the page

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const clock = () => `${new Date().toISOString().slice(11, 19)} UTC`;

  // ------------------------------------------------------------------------------- the stream

  const connection = document.getElementById("connection");
  const parts = new Set(all("[data-part]").map((part) => part.dataset.part));
  let seen = document.body.dataset.seen; // the newest message that is known; none: all is fetched
  let stream = null;
  let rest = REST_MS;
  let cutSince = "";
  let retry = 0;
  let heard = 0;

  // What was true when the stream was cut is no verdict any more: it loses its colour.
  function say(words) {
    if (connection.textContent !== words) connection.textContent = words;
    connection.hidden = !words;
    document.body.classList.toggle("apart", Boolean(words));
    head();
  }

  function open() {
    clearTimeout(retry);
    if (document.hidden || stream) return;
    stream = new EventSource(`/events?seen=${encodeURIComponent(seen)}`);
    heard = Date.now();
    stream.onopen = () => {
      rest = REST_MS;
      cutSince = "";
      heard = Date.now();
      say("");
      missed.forEach(renew);
    };
    stream.onerror = cut;
    on("values", (data) => put(JSON.parse(data)));
    on("part", (data) => renew(JSON.parse(data)));
    on("reload", () => [...parts, ...(run ? ["runs"] : [])].forEach(renew));
  }

  function on(kind, act) {
    stream.addEventListener(kind, (event) => {
      heard = Date.now();
      if (event.lastEventId) seen = event.lastEventId;
      act(event.data);
    });
  }

  function close() {
    if (stream) stream.close();
    stream = null;
  }

  // EventSource gives up for good after an error of HTTP, so it is never left to try by itself.
  function cut() {
    close();
    if (document.hidden) return;
    cutSince ||= clock();
    say(`Not connected since ${cutSince}. What stands here is as of then; it is tried again.`);
    clearTimeout(retry);
    retry = setTimeout(open, rest);
    rest = Math.min(2 * rest, REST_MAX_MS);
  }

  // A network that goes away says nothing, and neither does a telephone that has slept.
  setInterval(() => {
    if (stream && Date.now() - heard > SILENT_MS) cut();
  }, 5000);

  function wake() {
    if (document.hidden) {
      close();
    } else {
      rest = REST_MS;
      open();
    }
  }
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", wake);
  addEventListener("pagehide", close);
  addEventListener("pageshow", wake);

  // ---------------------------------------------------------------------------- what it tells

  function put(values) {
    for (const one of busy.values()) Object.assign(one.meanwhile, values);
    write(values);
  }

  function write(values) {
    for (const [key, text] of Object.entries(values)) {
      const [name, attribute] = key.endsWith("@value") ? [key.slice(0, -6), "liveValue"] : [key, "live"];
      for (const one of all(attribute === "live" ? "[data-live]" : "[data-live-value]")) {
        if (one.dataset[attribute] !== name) continue;
        if (attribute === "live") one.textContent = text;
        else one.setAttribute("value", text);
      }
    }
    head();
  }

  // One fetch of a part at a time: what changes meanwhile is fetched after it. Texts that come while
  // it is on its way may be newer than those in it, so they are written once more.
  const busy = new Map();
  const missed = new Set(); // parts that have not come: they are asked for again when the stream is back

  async function renew(name) {
    // The page of a run shows what stands in the part of the runs, too.
    const shown = part(name) ? `/parts/${name}${location.search}` : name === "runs" && run && location.pathname;
    if (!shown) return;
    if (busy.has(name)) {
      busy.get(name).again = true;
      return;
    }
    missed.add(name);
    if (document.hidden) return;
    const fetched = { again: false, meanwhile: {} };
    busy.set(name, fetched);
    try {
      const answer = await fetch(shown, { cache: "no-store" });
      if (answer.status >= 500) throw new Error(answer.statusText);
      if (answer.ok) swap(name, await answer.text());
      write(fetched.meanwhile);
      missed.delete(name);
    } catch {
      cut();
    } finally {
      busy.delete(name);
      if (fetched.again) renew(name);
    }
  }

  const run = document.getElementById("run");
  const part = (name) => all("[data-part]").find((one) => one.dataset.part === name);

  function swap(name, html) {
    const before = part(name) || run;
    const fetched = new DOMParser().parseFromString(html, "text/html");
    const found = fetched.querySelector(part(name) ? "[data-part]" : "#run");
    if (!before || !found) return;
    morph(before, found);
    head();
    watchShots(before);
  }

  // What is as it was stays where it is, with its focus, its selection and what is written in it;
  // the rest becomes what it is now. What has an id is found again wherever it has gone.
  function morph(old, now) {
    if (old.isEqualNode(now)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.data = now.data;
      return;
    }
    for (const { name, value } of now.attributes) {
      const moves = name === "src" && "shot" in old.dataset; // it is fetched each second anyway
      if (!moves && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && !name.startsWith("data-")) old.removeAttribute(name);
    }
    const known = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
    const wanted = new Set([...now.children].map((one) => one.id));
    for (const [id, one] of known) if (!wanted.has(id)) one.remove();
    let at = old.firstChild;
    const drop = () => {
      const next = at.nextSibling;
      at.remove();
      at = next;
    };
    for (const child of [...now.childNodes]) {
      const alike = at && !at.id && !child.id && at.nodeName === child.nodeName;
      const same = child.id ? known.get(child.id) : alike && at;
      if (!same || same.nodeName !== child.nodeName) {
        old.insertBefore(child, at);
        continue;
      }
      while (at && at !== same && !at.id) drop();
      if (at === same) at = at.nextSibling;
      else old.insertBefore(same, at);
      morph(same, child);
    }
    while (at) drop();
  }

  // A tab among others says it, too.
  function head() {
    const verdict = part("verdict");
    if (!verdict || parts.size < 2) return;
    const said = verdict.querySelector("[data-live='verdict.said']").textContent;
    document.title = cutSince ? `Not connected since ${cutSince}` : said;
    const icon = document.querySelector("link[rel=icon]");
    if (icon.getAttribute("href") !== verdict.dataset.icon) icon.setAttribute("href", verdict.dataset.icon);
  }

  // --------------------------------------------------------------------- pictures of the games

  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target);
      else visible.delete(entry.target);
    }
  });

  function watchShots(root) {
    for (const one of visible) if (!one.isConnected) visible.delete(one);
    all("img[data-shot]", root).forEach((one) => watcher.observe(one));
  }

  setInterval(() => {
    if (document.hidden || cutSince) return;
    for (const one of visible) {
      if (one.complete) one.src = `${one.dataset.shot}?at=${Date.now()}`;
    }
  }, SHOT_MS);

  // ----------------------------------------------------------------------- the output of a run

  const lines = document.getElementById("lines");
  const halt = document.getElementById("halt");

  async function follow() {
    const halted = halt.getAttribute("aria-pressed") === "true";
    if (!document.hidden && !halted) {
      try {
        const answer = await fetch(`${lines.dataset.lines}?after=${lines.dataset.position}`);
        if (answer.ok) append(await answer.json());
      } catch {
        // The stream tells that the server is away.
      }
    }
    setTimeout(follow, LINES_MS);
  }

  function append(found) {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    lines.dataset.position = found.position;
    if (!found.lines.length) return;
    lines.append(...found.lines.map((line) => document.createTextNode(`${line}\n`)));
    while (lines.childNodes.length > LINES_MAX) lines.firstChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  if (lines && halt) {
    lines.scrollTop = lines.scrollHeight;
    if (lines.dataset.lives === "yes") {
      halt.hidden = false;
      halt.addEventListener("click", () => {
        const halted = halt.getAttribute("aria-pressed") !== "true";
        halt.setAttribute("aria-pressed", String(halted));
        halt.textContent = halted ? "Go on" : "Halt";
      });
      follow();
    }
  }

  // ------------------------------------------------------------------------------- deep links

  // #run=Pong&t=2026-11-29T03:12 leads to the card of Pong, and to what was decided at that time.
  function lead() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const run = asked.get("run");
    const card = run && all("[data-run]").find((one) => one.dataset.run === run || one.id === `run=${run}`);
    const at = asked.get("t");
    const then = at && all(".log time").find((one) => one.dateTime.slice(0, at.length) <= at);
    const target = then ? then.closest("li") : card;
    if (!target) return;
    for (const one of all(".target")) one.classList.remove("target");
    target.classList.add("target");
    target.scrollIntoView({ block: "start" });
  }

  addEventListener("hashchange", lead);
  watchShots(document);
  lead();
  open();
})();
