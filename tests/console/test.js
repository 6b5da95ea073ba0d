// Walks through the console as people do, in a real browser: node test.js CONFIG, a JSON object with the server's url,
// the project, a link for each role, and the texts that must stay text. Prints one line per step; ends with 1 on the first fault.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { launch, open, settled, signIn } = require("./browser.js");

const axe = require.resolve("axe-core/axe.min.js");

async function step(name, work) {
  const begun = Date.now();
  await work();
  console.log(`ok ${name} (${Date.now() - begun} ms)`);
}

async function accessible(page, rules) {
  // the policy of the page allows no script of others, so it comes in by the debugger's door
  const source = fs.readFileSync(axe, "utf8");
  await page.evaluate(source);
  const all = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };
  const asked = rules ? { runOnly: { type: "rule", values: rules } } : all;
  const found = await page.evaluate((options) => window.axe.run(document, options), asked);
  const faults = found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
  assert.deepEqual(faults, [], page.url());
}

async function visit(page, path) {
  const answer = await page.goto(path);
  assert.equal(answer.status(), 200, path);
  await settled(page);
  await assertCalm(page);
}

async function assertCalm(page) {
  assert.equal(await page.evaluate(() => window.ranByAccident), undefined, `a script ran on ${page.url()}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${page.url()} is ${wide} px too wide`);
}

async function main() {
  const { url, project, links, person, item, model, recommender, taken, version, promoted, next, event } = JSON.parse(process.argv[2]);
  const base = `${url}/console/p/${project}`;
  const browser = await launch();
  const { page, seen, context } = await open(browser);
  const e = encodeURIComponent;
  const asked = e("SELECT name, properties, count(*) AS n FROM events GROUP BY name, properties ORDER BY n DESC");
  const paths = ["", "/models", `/models/${model}`, `/models/${model}/versions/1`, `/models/${model}/scorecard`, `/models/${recommender}`, `/models/${recommender}/versions/1`, `/models/${recommender}/scorecard`, "/ask", `/ask?sql=${asked}`, "/decisions", "/people", `/people/${e(person)}`, `/items/${e(item)}`,
    "/events", `/events/kinds/${e(event)}`, "/events/newest", "/events/quarantine", "/events/connect", "/alerts", "/value",
    `/models/${taken}`, `/models/${taken}/rollouts/1`, `/models/${taken}/rollouts/2`, "/requests", "/requests?over=day", `/requests?model=${taken}`, `/requests?route=${e("/v1/track")}`, `/requests?route=${e(event)}`,
    "/features", "/features/user.orders_30d", "/features/user.channel", "/settings"];

  await step("nobody sees a page before signing in", async () => {
    for (const path of ["", "/settings", "/live", "/parts/models"]) {
      await page.goto(base + path);
      assert.match(page.url(), /\/console\/sign-in$/);
    }
    await accessible(page);
  });
  await step("a link signs in once, and the root leads to the console", async () => {
    await signIn(page, links.admin);
    await page.goto(url);
    await page.waitForURL("**/console/p/**");
    const cookie = (await context.cookies()).find((one) => one.name === "__Host-tidemill");
    assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Lax" && cookie.path === "/", JSON.stringify(cookie));
    const second = await open(browser);
    await second.page.goto(links.admin);
    await second.page.getByText("used already or is too old").waitFor();
    await second.context.close();
  });
  for (const size of ["wide", "narrow"]) {
    await step(`every page, ${size}: it answers, fits, is accessible in light and dark, and runs nothing of others`, async () => {
      await page.setViewportSize(size === "wide" ? { width: 1440, height: 900 } : { width: 360, height: 740 });
      const faults = [];
      const note = (work) => work.catch((fault) => faults.push(`${fault.message}: ${JSON.stringify(fault.actual)}`));
      for (const path of paths) {
        await note(visit(page, base + path));
        for (const scheme of size === "wide" ? ["light", "dark"] : ["light"]) {
          await page.emulateMedia({ colorScheme: scheme });
          await note(accessible(page, scheme === "dark" ? ["color-contrast"] : undefined)); // nothing else differs
        }
      }
      assert.deepEqual(faults, []);
    });
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });

  await step("a decision shows what was known and why", async () => {
    await visit(page, `${base}/decisions`);
    await page.locator("td a[href*='/decisions/']").first().click();
    await page.getByRole("heading", { name: /^Decision / }).waitFor();
    await page.getByText("answered by").waitFor();
    await accessible(page);
  });
  await step("everything can be reached with the keyboard", async () => {
    await visit(page, base);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").waitFor();
    await accessible(page);
    await page.keyboard.type("decis");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/decisions");
    await page.keyboard.press("Control+k");
    await page.keyboard.type(person.slice(0, 20));
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("dialog[open]").count(), 0);
  });
  await step("the theme is switched and kept", async () => {
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const before = await ground();
    await page.getByRole("button", { name: "Light or dark" }).click();
    assert.notEqual(await ground(), before);
    await page.reload();
    assert.notEqual(await ground(), before);
    await page.getByRole("button", { name: "Light or dark" }).click();
  });
  await step("a table is taken along as CSV", async () => {
    await visit(page, `${base}/events`);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).first().click()]);
    assert.match(download.suggestedFilename(), /\.csv$/);
  });
  await step("a question is asked, its answer seen and taken along, and what changes something is refused", async () => {
    await visit(page, `${base}/ask`);
    const sql = page.getByLabel("SQL");
    await sql.fill("SELECT user_id, count(*) AS orders FROM events WHERE user_id LIKE 'c%' AND historical GROUP BY user_id ORDER BY user_id LIMIT 7");
    await sql.press("Control+Enter");
    await page.waitForURL("**/ask?sql=**");
    await page.getByText("7 rows").waitFor();
    assert.equal(await page.getByRole("region", { name: "answer" }).locator("tbody tr").count(), 7);
    assert.equal(await page.locator("rect.bar").count(), 7);
    await accessible(page);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "All of them as CSV" }).click()]);
    const file = require("node:fs").readFileSync(await download.path(), "utf8");
    assert.match(file, /^"user_id","orders"\r\n"c0","12"\r\n/);
    // what the console itself offers to ask is answered
    const offered = page.locator("main a.button[href*='/ask?sql=']");
    await visit(page, `${base}/ask`);
    const paths = await offered.evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    await visit(page, `${base}/items/${e(item)}`);
    paths.push(...await offered.evaluateAll((links) => links.map((link) => link.getAttribute("href"))));
    assert.ok(paths.length >= 3, String(paths));
    for (const path of paths) {
      await visit(page, url + path);
      assert.deepEqual(await page.getByRole("alert").allTextContents(), [], decodeURIComponent(path));
    }
    await visit(page, `${base}/ask?sql=${e("DROP TABLE events")}`);
    assert.match(await page.getByRole("alert").textContent(), /DROP|DDL/i);
  });
  await step("a test of the scorecard is recorded by hand, and a model card taken along", async () => {
    await visit(page, `${base}/models/${model}/scorecard`);
    const row = page.getByRole("row").filter({ has: page.locator("summary", { hasText: "Done by hand" }) }).first();
    await row.locator("summary").click();
    await row.getByLabel("What was done").fill("we read it together <b>twice</b>");
    await row.getByRole("button", { name: "Done by hand" }).click();
    await page.getByText("admin: we read it together <b>twice</b>").waitFor();
    await visit(page, `${base}/models/${model}/versions/1`);
    const [card] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Model card" }).click()]);
    const text = require("node:fs").readFileSync(await card.path(), "utf8");
    for (const part of ["## About", "## The gate", "## Metrics", "## What moves its answers"]) assert.ok(text.includes(part), part);
  });
  await step("a refused version is promoted against the gate by name, and rolled back, each after a question", async () => {
    await visit(page, `${base}/models/${model}/versions/1`);
    await page.locator("summary", { hasText: "Promote against the gate" }).click();
    await page.getByLabel("I overrule the gate").check();
    await page.getByLabel("Why").fill("to see it done");
    await page.getByRole("button", { name: "Promote against the gate" }).click();
    await visit(page, `${base}/models/${model}/versions/1`);
    await page.getByText("champion: it answers").waitFor();
    await visit(page, `${base}/models/${model}`);
    await page.locator("summary", { hasText: "Roll back" }).click();
    await page.getByLabel("Why").fill("to see that too");
    await page.getByRole("button", { name: "Roll back" }).click();
    await page.getByText("the fallback answers").waitFor();
    await visit(page, `${base}/settings`);
    const audit = await page.getByRole("region", { name: "audit log" }).textContent();
    for (const entry of ["rollback", "to see it done", "to see that too"]) assert.ok(audit.includes(entry), entry);
  });
  await step("it is seen how a version takes over, and it is sent back after a question", async () => {
    await visit(page, `${base}/models/${model}`);
    await page.getByText("Versions take over at once").waitFor();
    assert.ok((await page.locator(".empty code").allTextContents()).join("\n").includes('rollout = { shadow = "1h"'));
    await visit(page, `${base}/models/${taken}`);
    const steps = page.getByRole("list", { name: `stages of ${taken}@${version}` });
    const shown = async () => (await steps.getByRole("listitem").allInnerTexts()).map((text) => text.replace(/\s+/g, " "));
    const now = await shown();
    assert.equal(now.length, 4, await page.locator("main").innerText());
    for (const [place, begins] of ["✓ done Shadow", "✓ done Canary 10 %", "▶ goes on Canary 50 %", "○ to come Champion"].entries()) {
      assert.ok(now[place].startsWith(begins), now.join("; "));
    }
    assert.match(now[2], /time 0 s of 1 h|time \d+ (s|min) of 1 h/);
    assert.match(now[2], /answers \d+ of 100 control \d+ of 100/);
    assert.equal(await steps.locator("[aria-current=step]").count(), 1);
    const kept = page.getByRole("region", { name: "guardrails" }).getByRole("row");
    assert.equal(await kept.count(), 7, "six guardrails and their heads");
    assert.match(await kept.nth(1).innerText(), /0 of \d+\s+0 of \d+\s+at most 0.1 %\s+● kept/);
    // it is read again by itself, and still says the same
    await page.waitForResponse((answer) => answer.url().endsWith(`/parts/rollout/${taken}`));
    assert.equal((await shown()).length, 4);
    await page.locator("summary", { hasText: "Send back" }).click();
    await page.locator("details.ask[open]").getByLabel("Why").fill("to <b>see</b> it");
    await page.getByRole("button", { name: "Send back" }).click();
    await page.getByText("to <b>see</b> it").first().waitFor();
    const back = await shown();
    assert.ok(back[2].startsWith("▲ sent back Canary 50 %") && back[3].includes(`${taken}@1 stays`), back.join("; "));
    await accessible(page);
    const listed = page.getByRole("region", { name: `rollouts of ${taken}` }).locator("tbody tr");
    assert.deepEqual((await listed.allInnerTexts()).map((text) => text.includes("sent back")), [true, true]);
    await listed.last().getByRole("link", { name: "1", exact: true }).click();
    await page.getByRole("heading", { name: `Rollout 1: ${taken}@${version - 1}` }).waitFor();
    await page.locator("summary", { hasText: "stage by stage" }).click();
    const numbers = page.getByRole("region", { name: `numbers of ${taken}@${version - 1} by stage` });
    assert.equal(await numbers.locator("tbody tr").count(), 4);
    assert.match(await numbers.innerText(), /1,234\s+1\s+0.210 ms\s+1.900 ms\s+321\s+0.870\s+0.031/);
    const { name, value } = (await context.cookies()).find((one) => one.name === "__Host-tidemill");
    const missing = await context.request.get(`${base}/models/${taken}/rollouts/77`, { headers: { cookie: `${name}=${value}` } });
    assert.equal(missing.status(), 404);
  });
  await step("a version that takes over is promoted beside its stages, and rolled back, each after a question", async () => {
    await visit(page, `${base}/models/${promoted}`);
    const taking = page.locator(".taking");
    await taking.locator("summary", { hasText: "Promote" }).click();
    await taking.locator("details.ask[open]").getByLabel("Why").fill("it <b>did</b> well");
    await taking.getByRole("button", { name: "Promote" }).click();
    await page.getByText("champion: it answers").waitFor();
    await visit(page, `${base}/models/${promoted}`);
    assert.equal(await taking.count(), 0, "nothing takes over any more");
    const steps = page.getByRole("list", { name: `stages of ${promoted}@${next}` });
    const shown = (await steps.getByRole("listitem").allInnerTexts()).map((text) => text.replace(/\s+/g, " "));
    for (const [place, begins] of ["✓ done Shadow", "✓ done Canary 10 %", "✓ done Canary 50 %", "✓ done Champion"].entries()) {
      assert.ok(shown[place].startsWith(begins), shown.join("; "));
    }
    const part = page.locator("section", { has: page.getByRole("heading", { name: "How versions take over" }) });
    assert.match(await part.innerText(), new RegExp(`${promoted}@${next} ● took over beside ${promoted}@1 .*, by user admin`));
    assert.equal(await part.locator("p.reason").innerText(), `${promoted}@${next} was promoted: it <b>did</b> well`);
    const listed = page.getByRole("region", { name: `rollouts of ${promoted}` }).locator("tbody tr");
    assert.deepEqual((await listed.allInnerTexts()).map((text) => text.includes("took over")), [true, false]);
    await accessible(page);
    await page.locator("summary", { hasText: "Roll back" }).click();
    await page.locator("details.ask[open]").getByLabel("Why").fill("it did not stay so");
    await page.getByRole("button", { name: "Roll back" }).click();
    await page.waitForURL(`**/models/${promoted}`);
    await visit(page, `${base}/models/${promoted}/versions/1`);
    await page.getByText("champion: it answers").waitFor();
    // how it took over stays what it was, and who changed what is written down
    await visit(page, `${base}/models/${promoted}`);
    assert.match(await part.innerText(), new RegExp(`${promoted}@${next} ● took over`));
    await visit(page, `${base}/settings`);
    const audit = await page.getByRole("region", { name: "audit log" }).textContent();
    for (const entry of ["it <b>did</b> well", "it did not stay so"]) assert.ok(audit.includes(entry), entry);
  });
  await step("what was asked is seen by model and by route, over an hour and a day", async () => {
    await visit(page, `${base}/requests`);
    const byModel = page.getByRole("region", { name: "by model" });
    const row = byModel.getByRole("row").filter({ hasText: taken });
    assert.match(await row.innerText(), /\s200\s/);
    assert.match(await row.innerText(), /\d ms\s+[\d.]+ ms\s+[\d.]+ ms/);
    const byRoute = page.getByRole("region", { name: "by route" });
    assert.match(await byRoute.getByRole("row").filter({ hasText: "/v1/predict/{model}" }).innerText(), /\d+\s+0\s+0\s/);
    assert.equal(await page.locator("figure.chart").count(), 6);
    const moment = await page.locator("dl.figures").nth(-2).innerText();
    assert.match(moment, /requests now\s+\d+\s+being answered[^]*shadow now\s+\d+\s+questions wait/i);
    const full = await page.locator("dl.figures").last().innerText();
    for (const part of ["features", "lake", "memory", "data folder", "disk"]) assert.ok(full.includes(part), full);
    assert.match(full, /MiB/);
    await row.getByRole("link").click();
    await page.waitForURL(`**/requests?over=hour&model=${taken}`);
    await page.getByRole("heading", { name: taken }).waitFor();
    await page.locator("summary", { hasText: "The numbers" }).first().click();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: `${taken} in a minute as CSV` }).click()]);
    const file = fs.readFileSync(await download.path(), "utf8");
    assert.match(file, /^"From","Asked","by a fallback","Failed","p50","p95","p99"\r\n"20\d\d-/);
    await page.getByRole("link", { name: "Last day" }).click();
    await page.waitForURL(`**/requests?over=day&model=${taken}`);
    await accessible(page);
    const answer = await page.request.get(`${url}/metrics`);
    const numbers = await answer.text();
    assert.match(numbers, /tidemill_http_latency_seconds_bucket{le="10.0",route="\/v1\/predict\/{model}"} \d/);
    assert.match(numbers, /tidemill_http_requests_under_way 1\n/, "this one");
    assert.match(numbers, /tidemill_shadow_waiting{project="shop"} \d/);
  });
  await step("a key is made, shown once, and revoked", async () => {
    await visit(page, `${base}/settings`);
    await page.getByLabel("A new key may").selectOption("write");
    await page.getByRole("button", { name: "Make key" }).click();
    const key = await page.locator("main code").textContent();
    assert.match(key, /^tm_w_/);
    const track = () => context.request.post(`${url}/v1/track`, { data: { userId: "k", event: "Seen" }, headers: { authorization: `Bearer ${key}` } });
    await page.waitForTimeout(1100); // keys are read anew every second
    assert.equal((await track()).status(), 200);
    await visit(page, `${base}/settings`);
    const row = page.getByRole("row").filter({ hasText: key.slice(0, 13) });
    await row.locator("summary", { hasText: "Revoke" }).click();
    await row.getByRole("button", { name: "Revoke" }).click();
    await page.waitForURL("**done=yes");
    await page.waitForTimeout(1100);
    assert.equal((await track()).status(), 401);
  });
  await step("what is in quarantine is tried again, and what is still no event stays", async () => {
    await visit(page, `${base}/events/quarantine`);
    const rows = await page.getByRole("region", { name: "quarantine" }).locator("tbody tr").count();
    assert.ok(rows > 0);
    await page.locator("summary", { hasText: "Try all again" }).click();
    await page.getByRole("button", { name: "Try all again" }).click();
    await page.getByText(`0 became events, ${rows} did not`).waitFor();
    await accessible(page);
  });
  await step("a person is exported as a file, and erased", async () => {
    await visit(page, `${base}/people/c7`);
    await page.locator("summary", { hasText: "Export" }).click();
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
    const exported = JSON.parse(fs.readFileSync(await file.path(), "utf8"));
    assert.ok(exported.ids.includes("user:c7") && exported.complete && exported.events.length > 0 && exported.features.length > 0);
    await page.locator("summary", { hasText: "Erase" }).click();
    await page.getByLabel("Why").fill("they asked us to");
    await page.getByRole("button", { name: "Erase" }).click();
    await page.getByText("erased").first().waitFor();
    await visit(page, `${base}/people/c7`);
    await page.getByText("Nothing is known of them").waitFor();
  });
  const linkFor = async (name) => {
    await visit(page, `${base}/settings`);
    const row = page.getByRole("row", { name });
    await row.locator("summary", { hasText: "Link" }).click();
    await row.getByRole("button", { name: "Link" }).click();
    const link = await page.locator("main code").textContent();
    assert.ok(link.startsWith(`${url}/console/sign-in?link=`), link);
    await visit(page, `${base}/settings`);
    return link;
  };
  await step("an admin adds a viewer, gives them a link, and the audit log knows", async () => {
    await visit(page, `${base}/settings`);
    await page.locator("form[action$='/settings/users'] input[name=name]").fill("bob");
    await page.getByRole("button", { name: "Add, or change the role" }).click();
    await page.waitForURL("**done=yes");
    links.bob = await linkFor(/bob viewer/);
    const row = page.getByRole("row", { name: /^bob viewer/ });
    const give = async (ticks) => {
      await row.locator("summary", { hasText: "Projects" }).click();
      for (const [label, isSet] of ticks) await row.getByLabel(label).setChecked(isSet);
      await accessible(page);
      await row.getByRole("button", { name: "Projects" }).click();
      await page.waitForURL("**done=yes");
      await visit(page, `${base}/settings`);
      return row.innerText();
    };
    assert.match(await row.innerText(), /bob\s+viewer\s+all\s/);
    assert.match(await give([["all, also those to come", false]]), /bob\s+viewer\s+none\s/);
    const nobody = await open(browser);
    await nobody.page.goto(links.bob);
    await nobody.page.getByRole("button", { name: "Open the console" }).click();
    await nobody.page.getByText("You were given no project of this server").waitFor();
    await nobody.context.close();
    assert.match(await give([[project, true]]), new RegExp(`bob\\s+viewer\\s+${project}\\s`));
    links.bob = await linkFor(/bob viewer/);
    const audit = await page.getByRole("region", { name: "audit log" }).textContent();
    for (const entry of ["add user", "add link", "sign in", "set projects"]) assert.ok(audit.includes(entry), entry);
  });
  await step("training is asked for, and a password set", async () => {
    await visit(page, `${base}/models/${model}`);
    const runs = () => page.locator("table", { has: page.getByText("What it found") }).locator("tbody tr").count();
    const before = await runs();
    const token = await page.locator("input[name=token]").first().inputValue();
    await page.locator("summary", { hasText: "Train now" }).click();
    await page.getByRole("button", { name: "Train now" }).click();
    await page.waitForURL(`**/models/${model}`);
    // impatience does not pile up runs
    const again = () => page.request.post(`${base}/models/${model}/train`, { form: { token }, headers: { "sec-fetch-site": "same-origin" } });
    assert.deepEqual((await Promise.all([again(), again()])).map((one) => one.status()), [200, 200]);
    do await page.reload(); while ((await page.getByText("running", { exact: true }).count()) > 0);
    assert.equal(await runs(), before + 1);
    const other = await open(browser);
    await signIn(other.page, await linkFor(/admin admin/));
    await page.getByLabel("New password").fill("correct horse battery");
    await page.getByRole("button", { name: "Set password" }).click();
    await page.waitForURL("**done=yes");
    // whoever is signed in elsewhere is out
    await other.page.goto(`${base}/settings`);
    assert.ok(other.page.url().includes("/console/sign-in"), other.page.url());
    await other.context.close();
  });
  await step("a viewer looks and cannot act", async () => {
    const viewer = await open(browser);
    await signIn(viewer.page, links.bob);
    for (const path of paths) await visit(viewer.page, base + path);
    await visit(viewer.page, `${base}/models/${model}`);
    assert.equal(await viewer.page.locator("details.ask").count(), 0);
    await visit(viewer.page, `${base}/settings`);
    for (const name of ["Users", "Backups"]) assert.equal(await viewer.page.getByRole("heading", { name }).count(), 0);
    const token = await viewer.page.locator("input[name=token]").first().inputValue();
    const acts = [[`/models/${model}/train`, {}], [`/models/${taken}/rollback`, { reason: "x" }], [`/models/${taken}/versions/${version}/promote`, {}], [`/models/${model}/rollback`, { reason: "x" }], [`/models/${model}/versions/1/promote`, {}],
      ["/alerts/silence", { id: "x", for: "1d" }], ["/settings/users", { name: "eve", role: "admin" }], ["/settings/users/remove", { name: "admin" }], ["/settings/users/projects", { name: "bob", all: "yes" }],
      ["/settings/users/link", { name: "admin" }], ["/settings/keys", { scope: "admin" }], ["/settings/keys/revoke", { id: "x" }], ["/events/quarantine/replay", {}],
      ["/people/c1/erase", { reason: "x" }], ["/people/c1/export", {}], [`/models/${model}/scorecard`, { test: "data1", note: "x" }]];
    for (const [path, fields] of acts) {
      const status = await viewer.page.evaluate(async ([to, body]) =>
        (await fetch(to, { method: "POST", body: new URLSearchParams(body) })).status, [base + path, { ...fields, token }]);
      assert.equal(status, 403, path);
    }
    await viewer.context.close();
  });
  await step("forms of other sites and of other sessions are refused", async () => {
    const token = await page.locator("input[name=token]").first().inputValue();
    const { name, value } = (await context.cookies()).find((one) => one.name === "__Host-tidemill");
    // outside of a browser, the cookie of a secure context has to be handed over
    const send = (form, headers) => context.request.post(`${base}/models/${model}/train`,
      { form, headers: { ...headers, cookie: `${name}=${value}` }, maxRedirects: 0 });
    assert.equal((await send({ token }, { "sec-fetch-site": "cross-site" })).status(), 403);
    assert.equal((await send({ token }, { origin: "http://evil.example" })).status(), 403);
    assert.equal((await send({ token }, {})).status(), 403);
    assert.equal((await send({ token: "0".repeat(64) }, { "sec-fetch-site": "same-origin" })).status(), 403);
    assert.equal((await send({}, { "sec-fetch-site": "same-origin" })).status(), 403);
    const sent = await send({ token }, { "sec-fetch-site": "same-origin" });
    assert.deepEqual([sent.status(), sent.headers().location], [303, new URL(`${base}/models/${model}`).pathname]);
  });
  await step("signing out ends the session; passwords sign in, ten wrong ones do not", async () => {
    await visit(page, base);
    const cookie = (await context.cookies()).find((one) => one.name === "__Host-tidemill");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    await context.addCookies([cookie]);
    await page.goto(base);
    assert.match(page.url(), /\/sign-in$/, "the session is over on the server too");
    await page.getByLabel("Name").fill("admin");
    await page.getByLabel("Password").fill("correct horse battery");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL("**/console/p/**");
    const sent = { "sec-fetch-site": "same-origin" };
    const guess = () => context.request.post(`${url}/console/sign-in`, { form: { name: "nobody", password: "x" }, headers: sent, maxRedirects: 0 });
    for (let attempt = 0; attempt < 10; attempt += 1) assert.equal((await guess()).status(), 200);
    assert.equal((await guess()).status(), 403);
  });
  await step("no complaint in the browser's console, no request that leaves the server", async () => {
    const strange = seen.requests.filter((request) => !request.startsWith(url) && !request.startsWith("blob:") && !request.startsWith("data:"));
    assert.deepEqual(strange, []);
    assert.deepEqual(seen.errors, []);
  });
  await step("pages say what browsers shall not do", async () => {
    const answer = await page.goto(base);
    const headers = answer.headers();
    assert.match(headers["content-security-policy"], /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/);
    assert.equal(headers["x-frame-options"], "DENY");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(await page.locator("script:not([src]), style, [style], [onclick]").count(), 0);
  });
  await browser.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
