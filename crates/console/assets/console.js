// What a page alone cannot do: the viewer's theme and time zone, what is loaded later or moves, tables as CSV, and going
// to places by name. Every page works without it.
"use strict";

const THEME = "tidemill-theme";
const stored = localStorage.getItem(THEME);
if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;

function switchTheme() {
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (systemIsDark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.theme);
}

// Times in the zone of whoever looks; the exact instant stays in the title.
const written = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.textContent = written.format(at);
  }
}

function addCsv(root) {
  for (const table of root.querySelectorAll("table[data-csv]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "CSV";
    button.setAttribute("aria-label", `${table.dataset.csv} as CSV`);
    button.addEventListener("click", () => save(table));
    table.closest(".scroll").before(button);
  }
}

function save(table) {
  const quoted = (cell) => {
    const time = cell.querySelector("time");
    const text = time && cell.children.length === 1 ? time.dateTime : cell.textContent.trim().replace(/\s+/g, " ");
    // what begins like a formula is text for spreadsheets too
    const safe = /^[=+@\t]/.test(text) ? `'${text}` : text;
    return `"${safe.replaceAll('"', '""')}"`;
  };
  const lines = [...table.rows].map((row) => [...row.cells].map(quoted).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = `${table.dataset.csv.replace(/[^\w-]+/g, "-")}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// Parts that take a moment. What comes was made and escaped by this server.
async function load(root) {
  await Promise.all([...root.querySelectorAll("[data-load]")].map(async (place) => {
    const path = place.dataset.load;
    place.removeAttribute("data-load");
    place.setAttribute("aria-busy", "true");
    const answer = await fetch(path).catch(() => null);
    if (answer && answer.ok && !answer.redirected) {
      place.innerHTML = await answer.text();
      enliven(place);
    } else {
      place.textContent = "This part could not be read. Open the page again.";
    }
    place.removeAttribute("aria-busy");
  }));
}

// Parts that move are read again, unless somebody is at work in them or does not look.
const AGAIN_MS = 5000;

function readAgain(place) {
  const timer = setInterval(async () => {
    const isAtWork = place.contains(document.activeElement) || place.querySelector("details[open]") || getSelection().type === "Range";
    if (document.hidden || isAtWork) return;
    const answer = await fetch(place.dataset.again).catch(() => null);
    if (!answer) return; // the server may be about to come back
    if (!answer.ok || answer.redirected) return clearInterval(timer);
    place.innerHTML = await answer.text();
    enliven(place);
  }, AGAIN_MS);
}

function enliven(root) {
  showTimes(root);
  addCsv(root);
  load(root);
  for (const place of root.querySelectorAll("[data-again]")) readAgain(place);
  for (const area of root.querySelectorAll("[data-run]")) {
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
    });
  }
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
    });
  }
}

// What moves.
const counts = new Intl.NumberFormat("en-US");

function follow(path) {
  const source = new EventSource(path);
  const seen = [];
  source.onmessage = (message) => {
    const now = JSON.parse(message.data);
    seen.push({ at: performance.now(), now });
    if (seen.length > 31) seen.shift();
    for (const place of document.querySelectorAll("[data-live]")) {
      const text = counts.format(now[place.dataset.live]);
      if (place.textContent !== text) place.textContent = text;
    }
    const first = seen[0];
    const minutes = (performance.now() - first.at) / 60000;
    for (const place of document.querySelectorAll("[data-rate]")) {
      const more = now[place.dataset.rate] - first.now[place.dataset.rate];
      place.textContent = counts.format(minutes > 0 ? Math.round(more / minutes) : 0);
    }
    if (now.stored > 0 && document.querySelector("[data-first-event]")) location.reload();
  };
  addEventListener("pagehide", () => source.close());
}

// Going to places by name.
function palette() {
  const dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.setAttribute("aria-label", "Go to");
  const input = document.createElement("input");
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-expanded", "true");
  input.setAttribute("aria-controls", "places");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-label", "A page, a model, or the id of a person, an item or a decision");
  input.placeholder = "A page, a model, or an id";
  const list = document.createElement("ul");
  list.id = "places";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Places");
  dialog.append(input, list);
  document.body.append(dialog);
  const base = `/console/p/${document.documentElement.dataset.project}`;
  const pages = [...document.querySelectorAll(".side nav a")].map((a) => ({
    name: a.childNodes[1].textContent, path: a.getAttribute("href"),
  }));
  let chosen = 0;

  const found = () => {
    const text = input.value.trim();
    const fits = pages.filter((page) => page.name.toLowerCase().includes(text.toLowerCase()));
    if (text) {
      const id = encodeURIComponent(text);
      fits.push({ name: `Person ${text}`, path: `${base}/people/${id}` });
      fits.push({ name: `Item ${text}`, path: `${base}/items/${id}` });
      fits.push({ name: `Model ${text}`, path: `${base}/models/${id}` });
      fits.push({ name: `Decisions about ${text}`, path: `${base}/decisions?who=${id}` });
    }
    return fits;
  };
  const show = () => {
    const places = found();
    chosen = Math.max(0, Math.min(chosen, places.length - 1));
    list.replaceChildren(...places.map((place, at) => {
      const line = document.createElement("li");
      line.id = `place-${at}`;
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(at === chosen));
      line.textContent = place.name;
      line.addEventListener("click", () => { location.href = place.path; });
      return line;
    }));
    input.setAttribute("aria-activedescendant", places.length ? `place-${chosen}` : "");
  };
  input.addEventListener("input", () => { chosen = 0; show(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") chosen += 1;
    else if (event.key === "ArrowUp") chosen -= 1;
    else if (event.key === "Enter") {
      const place = found()[chosen];
      if (place) location.href = place.path;
    } else return;
    event.preventDefault();
    show();
  });
  const open = () => {
    if (dialog.open) return;
    input.value = "";
    chosen = 0;
    show();
    dialog.showModal();
    input.focus();
  };
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.querySelector("[data-palette]").addEventListener("click", open);
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  enliven(document);
  for (const button of document.querySelectorAll("[data-theme-switch]")) button.addEventListener("click", switchTheme);
  const followed = document.querySelector("[data-follow]");
  if (followed) follow(followed.dataset.follow);
  if (document.querySelector("[data-palette]")) palette();
  // one question at a time, and Escape closes it
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.ask[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });
});
