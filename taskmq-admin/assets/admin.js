"use strict";
// Everything can be read and done without this: it keeps figures live, asks before it deletes, and listens to keys.
(() => {
  const root = document.body.dataset.root;

  // What was just done is said once: not again when the page is loaded anew, or kept.
  const address = new URL(location.href);
  if (address.searchParams.has("told")) { address.searchParams.delete("told"); history.replaceState(null, "", address); }

  // Makes `old` what `fresh` is, and leaves alone what is the same, so that focus and selection stay.
  const morph = (old, fresh) => {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.matches("input, textarea, select")) return;
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      if (next.dataset?.key) {
        const same = [...old.children].find((child) => child.dataset.key === next.dataset.key);
        if (same && same !== at) { old.insertBefore(same, at); at = same; }
        else if (!same) { old.insertBefore(next, at); continue; }
      }
      if (!at) old.appendChild(next);
      else if (at.nodeName !== next.nodeName) { const gone = at; at = at.nextSibling; gone.replaceWith(next); }
      else {
        if (at.nodeType === Node.ELEMENT_NODE) morph(at, next);
        else if (at.nodeValue !== next.nodeValue) at.nodeValue = next.nodeValue;
        at = at.nextSibling;
      }
    }
    while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
  };

  const live = document.getElementById("live");
  const mark = document.querySelector(".live");
  let source, lost;
  const tell = () => {
    if (mark) mark.hidden = true;
    if (lost) return;
    lost = document.createElement("p");
    lost.className = "notice bad";
    lost.setAttribute("role", "status");
    const again = document.createElement("a");
    again.href = "";
    again.textContent = live.dataset.reload;
    lost.append(`${live.dataset.lost} ${new Date().toLocaleTimeString()}. `, again);
    live.before(lost);
  };
  const look = () => {
    if (!live || document.hidden === !source) return;
    if (document.hidden) { source.close(); source = undefined; if (mark) mark.hidden = true; return; }
    const opened = source = new EventSource(live.dataset.live);
    source.onopen = () => { if (mark) mark.hidden = false; lost?.remove(); lost = undefined; };
    source.onerror = () => {
      tell();
      // It tries again by itself, but not when the answer was that nobody is signed in, as after a restart.
      if (opened.readyState === EventSource.CLOSED && source === opened) { source = undefined; setTimeout(look, 5000); }
    };
    // A stream lasts for some seconds only, so that the next one shows who may still read.
    source.addEventListener("again", () => { opened.close(); if (source === opened) { source = undefined; look(); } });
    source.onmessage = ({ data }) => {
      const fresh = document.createElement("div");
      // Written by our own server, which escapes whatever comes from messages.
      fresh.innerHTML = data;
      for (const { name, value } of [...live.attributes]) fresh.setAttribute(name, value);
      const focused = document.activeElement;
      morph(live, fresh);
      // What has changed its place was taken out for it.
      if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    };
  };
  document.addEventListener("visibilitychange", look);
  look();

  // How many are selected, and all at once.
  const ticks = (name) => [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  const count = () => {
    for (const place of document.querySelectorAll("[data-count]")) {
      const all = ticks(place.dataset.count), number = all.filter((tick) => tick.checked).length;
      place.textContent = number;
      for (const button of place.closest("form")?.querySelectorAll("button[name=action]") ?? []) button.disabled = !number;
      const whole = document.querySelector(`[data-all="${place.dataset.count}"]`);
      if (whole) { whole.checked = number > 0 && number === all.length; whole.indeterminate = number > 0 && number < all.length; }
    }
  };
  document.addEventListener("change", ({ target }) => {
    if (target.dataset.all) for (const tick of ticks(target.dataset.all)) tick.checked = target.checked;
    count();
  });
  count();

  // A question before what cannot be undone; without it, the server asks on a page of its own.
  document.addEventListener("submit", (event) => {
    const button = event.submitter, form = event.target;
    if (!button?.dataset.confirm) return;
    event.preventDefault();
    const dialog = document.createElement("dialog"), words = document.createElement("p"), row = document.createElement("div");
    words.textContent = button.dataset.confirm;
    words.id = "question";
    dialog.setAttribute("aria-labelledby", words.id);
    const no = document.createElement("button"), yes = document.createElement("button");
    no.type = yes.type = "button";
    no.textContent = document.documentElement.lang === "en" ? "Back" : "返回";
    yes.textContent = button.textContent;
    yes.className = "bad";
    row.append(no, yes);
    dialog.append(words, row);
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    no.onclick = () => dialog.close();
    yes.onclick = () => {
      for (const [name, value] of [["confirm", "yes"], [button.name, button.value]]) {
        const field = document.createElement("input");
        field.type = "hidden"; field.name = name; field.value = value;
        form.append(field);
      }
      form.submit();
    };
    dialog.showModal();
  });

  // A form that was refused is where it was left.
  const back = document.querySelector("[data-back]");
  if (back && history.length > 1) { back.hidden = false; back.onclick = () => history.back(); }

  // Rows lead where their link leads.
  document.addEventListener("click", ({ target }) => {
    const row = target.closest("tr[data-href]");
    if (row && !target.closest("a, button, input, label") && getSelection().isCollapsed) location.href = row.dataset.href;
  });

  // Where the pages do not all fit beside each other, this one is among those that are seen.
  const here = document.querySelector(".side nav [aria-current]");
  if (here) document.querySelector(".side nav").scrollLeft = here.offsetLeft - 40;

  // Of a picture that is wider than its place, this message's step is seen, or the middle, where most begin.
  for (const graph of document.querySelectorAll(".graph")) {
    const own = graph.querySelector(".own")?.getBoundingClientRect(), place = graph.getBoundingClientRect();
    graph.scrollLeft = own ? own.left + own.width / 2 - place.left - place.width / 2 : (graph.scrollWidth - graph.clientWidth) / 2;
  }

  // What the consumer of the topic reads that is typed or chosen.
  const schema = document.querySelector("[data-schema]"), topic = document.querySelector(".produce [name=topic]");
  if (schema && topic) {
    let shown = topic.defaultValue, asked, timer;
    const read = async () => {
      const name = topic.value.trim();
      if (name === shown) return;
      shown = name;
      asked?.abort();
      asked = new AbortController();
      try {
        const answer = await fetch(`${root}produce?topic=${encodeURIComponent(name)}`, { signal: asked.signal });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const open = schema.querySelector("details")?.open;
        schema.replaceChildren(...(page.querySelector("[data-schema]")?.childNodes ?? []));
        const details = schema.querySelector("details");
        if (details && open) details.open = true;
      } catch { /* Another is typed already, or nobody answers: the form is as good without. */ }
    };
    topic.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(read, 250); });
    // Fields keep what was typed when one comes back.
    addEventListener("pageshow", read);
  }

  // Single keys, which whoever speaks to the browser or misses keys turns off. They are off on touch screens, where their list is hidden.
  const remembered = () => { try { return localStorage.getItem("taskmq_keys"); } catch { return null; } };
  let listens = remembered() !== "off" && !matchMedia("(hover: none) and (pointer: coarse)").matches;
  const turn = document.querySelector("[data-keys]");
  if (turn) {
    const offer = () => { turn.textContent = listens ? turn.dataset.off : turn.dataset.on; };
    turn.onclick = () => {
      listens = !listens;
      try { localStorage.setItem("taskmq_keys", listens ? "on" : "off"); } catch { /* For this page alone. */ }
      offer();
    };
    turn.hidden = false;
    offer();
  }

  const places = { o: "overview", m: "messages", d: "dead", w: "workers", s: "schedules", f: "workflows", a: "audit", p: "produce" };
  let going = false;
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
    if (key === "Enter" && target.matches("[data-href]")) { location.href = target.dataset.href; return; }
    if (!listens) return;
    if (going) { going = false; if (key in places) location.href = root + places[key]; return; }
    if (key === "g") { going = true; setTimeout(() => { going = false; }, 1500); return; }
    if (key === "/") { const box = document.querySelector("[data-search]"); if (box) { event.preventDefault(); box.focus(); } return; }
    if (key !== "j" && key !== "k") return;
    // The row has the focus, so that it is read out.
    const rows = [...document.querySelectorAll("[data-href]")];
    const at = rows.findIndex((row) => row.contains(document.activeElement)) + (key === "j" ? 1 : -1);
    rows[Math.min(Math.max(at, 0), rows.length - 1)]?.focus();
  });
})();
