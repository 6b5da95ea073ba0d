// Sends events with the unmodified @segment/analytics-node; only the host is changed.
//
// usage: node send.js HOST WRITE_KEY COUNT IDS_FILE      (NODE_PATH names the folder with the package)
//
// Every message id goes to IDS_FILE, one a line. On standard output, one JSON object a line:
//   {"delivered": n}   so many have been confirmed by the server
//   {"retry": n}       the client met an error and tries again, for the n-th time
//   {"done": {"sent": n, "failed": n, "retries": n, "client": "…"}}
"use strict";

const fs = require("node:fs");
const { Analytics } = require("@segment/analytics-node");
const { version } = require("@segment/analytics-node/package.json");

const PORTION = 500;
const OUTSTANDING_MAX = 1000;
const BATCH_EVENTS = 15; // the client's default
const KINDS = ["track", "identify", "page", "screen", "group", "alias"];

const report = (fields) => process.stdout.write(JSON.stringify(fields) + "\n");

// One event; all six kinds take turns, most of them `track`, as in a real application.
function call(analytics, number) {
  const userId = `user-${number % 250}`;
  switch (number % 10) {
    case 0:
      return analytics.identify({ userId, traits: { email: `${userId}@example.test`, plan: number % 3 ? "pro" : "free" } });
    case 1:
      return analytics.page({ userId, category: "Docs", name: "Pricing", properties: { url: "https://shop.example.test/pricing" } });
    case 2:
      return analytics.screen({ userId, category: "App", name: "Basket", properties: { items: number % 7 } });
    case 3:
      return analytics.group({ userId, groupId: `team-${number % 20}`, traits: { seats: number % 50 } });
    case 4:
      return analytics.alias({ userId, previousId: `visitor-${number}` });
    default:
      return analytics.track({
        userId,
        event: "Order Completed",
        properties: { total: number / 100, currency: "EUR", products: [{ sku: number % 40 }] },
      });
  }
}

async function main(host, writeKey, count, idsPath) {
  const analytics = new Analytics({ writeKey, host });
  const ids = fs.openSync(idsPath, "w");
  const seen = new Set();
  let delivered = 0;
  let failed = 0;
  let retries = 0;
  let settled = () => {};

  for (const kind of KINDS) {
    analytics.on(kind, () => {
      delivered += 1;
      if (delivered % PORTION === 0) report({ delivered });
      settled();
    });
  }
  analytics.on("error", (error) => {
    failed += 1;
    console.error("gave up on an event:", error.code, String(error.reason));
    settled();
  });
  analytics.on("http_request", (request) => {
    // the first attempt carries each event for the first time: that is where the client's own ids can be read
    for (const { messageId } of JSON.parse(request.body).batch) {
      if (!seen.has(messageId)) {
        seen.add(messageId);
        fs.writeSync(ids, messageId + "\n");
      }
    }
    if (request.headers["X-Retry-Count"]) {
      retries += 1;
      report({ retry: retries });
    }
  });

  const settledExcept = async (sent, outstanding) => {
    while (sent - delivered - failed > outstanding) {
      await new Promise((resolve) => (settled = resolve));
    }
  };
  for (let number = 0; number < count; number += 1) {
    await settledExcept(number, OUTSTANDING_MAX);
    call(analytics, number);
  }
  // flushing while batches are under way makes the client wait for its timer (10 s), so only the unfilled one is left
  await settledExcept(count, BATCH_EVENTS - 1);
  await new Promise(setImmediate); // the client does its own count after it has told us
  await analytics.closeAndFlush({ timeout: 60_000 });
  fs.closeSync(ids);
  report({ done: { sent: count, failed, retries, client: `@segment/analytics-node ${version}` } });
}

if (process.argv.length !== 6) {
  console.error("usage: node send.js HOST WRITE_KEY COUNT IDS_FILE");
  process.exit(2);
}
const [, , host, writeKey, count, idsPath] = process.argv;
main(host, writeKey, Number(count), idsPath).catch((error) => {
  console.error(error);
  process.exit(1);
});
