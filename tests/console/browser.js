// What the tests and the screenshots share: a browser that may speak to the server only, and signing in.
"use strict";

const { chromium } = require("playwright-core");

const SIZES = { wide: { width: 1440, height: 900 }, narrow: { width: 360, height: 740 } };

async function launch() {
  return chromium.launch({
    executablePath: process.env.TIDEMILL_CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
  });
}

// A window of its own, whose complaints and requests are written down.
async function open(browser, { size = "wide", scheme = "light" } = {}) {
  const context = await browser.newContext({
    viewport: SIZES[size], colorScheme: scheme, reducedMotion: "reduce", locale: "en-GB", timezoneId: "Europe/Vienna",
  });
  const page = await context.newPage();
  const seen = { errors: [], requests: [] };
  page.on("console", (message) => { if (message.type() === "error") seen.errors.push(`${page.url()}: ${message.text()}`); });
  page.on("pageerror", (error) => seen.errors.push(`${page.url()}: ${error}`));
  page.on("request", (request) => seen.requests.push(request.url()));
  return { context, page, seen };
}

async function signIn(page, link) {
  await page.goto(link);
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.waitForURL("**/console/p/**");
}

// Until what is loaded later is there.
async function settled(page) {
  await page.waitForFunction(() => !document.querySelector("[data-load], [aria-busy]"), null, { timeout: 60000 });
}

module.exports = { SIZES, launch, open, settled, signIn };
