// Pictures of every page, light and dark, wide and narrow: node screenshots.js LINK FOLDER [FILTER]
// With the filter `readme`, the three of the README: console-overview.png, console-version.png, console-person.png.
"use strict";

const path = require("node:path");
const { launch, open, settled, signIn } = require("./browser.js");

async function pages(page, base) {
  const host = new URL(page.url()).origin;
  base = `${host}${base}`;
  const relative = async (selector, at) => {
    await page.goto(base + at);
    await settled(page);
    const link = page.locator(selector).first();
    if (!(await link.count())) return null;
    const href = await link.getAttribute("href");
    return new URL(href, host).pathname.slice(new URL(base).pathname.length) + new URL(href, host).search;
  };
  const model = await relative(".card h3 a", "/models");
  const found = {
    overview: "",
    models: "/models",
    model,
    version: await relative("td a[href*='/versions/']", model),
    rollout: await relative("td a[href*='/rollouts/']", model),
    compare: await relative("a[href*='/compare']", model),
    decisions: "/decisions",
    decision: await relative("td a[href*='/decisions/']", "/decisions"),
    people: "/people",
    person: await relative("td a[href*='/people/']", "/people"),
    events: "/events",
    kind: await relative("td a[href*='/kinds/']", "/events"),
    newest: "/events/newest",
    quarantine: "/events/quarantine",
    connect: "/events/connect",
    alerts: "/alerts",
    requests: "/requests",
    value: "/value",
    features: "/features",
    feature: await relative("td a[href*='/features/']", "/features"),
    settings: "/settings",
  };
  return Object.entries(found).filter(([, at]) => at !== null);
}

async function main([link, folder, filter = ""]) {
  const browser = await launch();
  const { context, page } = await open(browser);
  await signIn(page, link);
  const base = new URL(page.url()).pathname;
  const all = await pages(page, base);
  const origin = new URL(page.url()).origin;
  const state = await context.storageState();
  const take = async (at, { scheme, viewport, file, fullPage }) => {
    const window = await browser.newContext({ storageState: state, viewport, colorScheme: scheme, locale: "en-GB" });
    const shown = await window.newPage();
    await shown.goto(origin + base + at);
    await settled(shown);
    await shown.screenshot({ path: path.join(folder, file), fullPage });
    await window.close();
  };
  if (filter === "readme") {
    for (const [name, at] of all.filter(([name]) => ["overview", "version", "person"].includes(name))) {
      await take(at, { scheme: "light", viewport: { width: 1200, height: 760 }, file: `console-${name}.png`, fullPage: false });
    }
    return browser.close();
  }
  for (const scheme of ["light", "dark"]) {
    for (const size of ["wide", "narrow"]) {
      if (!`${scheme}-${size}`.includes(filter)) continue;
      const viewport = size === "wide" ? { width: 1440, height: 900 } : { width: 360, height: 740 };
      for (const [name, at] of all) {
        await take(at, { scheme, viewport, file: `${name}-${scheme}-${size}.png`, fullPage: size === "wide" });
      }
    }
  }
  await browser.close();
}

main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
