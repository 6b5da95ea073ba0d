"""Sends events with the unmodified segment-analytics-python; only the host is changed.

usage: send.py HOST WRITE_KEY COUNT IDS_FILE

Every message id goes to IDS_FILE, one a line. On standard output, one JSON object a line:
  {"delivered": n}   after each portion: so many have been confirmed by the server (or given up on)
  {"retry": n}       the client met an error and tries again, for the n-th time
  {"done": {"sent": n, "failed": n, "retries": n, "client": "…"}}
"""

import json
import logging
import sys
import threading

import segment.analytics as segment
from segment.analytics.client import Client

PORTION = 2_500


class Report:
    """Lines for the test that started this program; the client's thread and the main thread both write them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.retries = 0
        self.failed = 0

    def line(self, **fields):
        with self.lock:
            print(json.dumps(fields), flush=True)


class RetryWatch(logging.Handler):
    """The client says in its debug log that it tries again; nothing else tells."""

    def __init__(self, report):
        super().__init__()
        self.report = report

    def emit(self, record):
        if record.levelno == logging.DEBUG and "etry" in str(record.msg):
            self.report.retries += 1
            self.report.line(retry=self.report.retries)


def call(client, number):
    """One event; all six kinds take turns, most of them `track`, as in a real application."""
    user = f"user-{number % 250}"
    kind = number % 10
    if kind == 0:
        return client.identify(user, {"email": f"{user}@example.test", "plan": "pro" if number % 3 else "free"})
    if kind == 1:
        return client.page(user, "Docs", "Pricing", {"url": "https://shop.example.test/pricing"})
    if kind == 2:
        return client.screen(user, "App", "Basket", {"items": number % 7})
    if kind == 3:
        return client.group(user, f"team-{number % 20}", {"seats": number % 50})
    if kind == 4:
        return client.alias(f"visitor-{number}", user)
    return client.track(user, "Order Completed", {"total": number / 100, "currency": "EUR", "products": [{"sku": number % 40}]})


def main(host, write_key, count, ids_path):
    report = Report()

    def on_error(error, batch):
        report.failed += len(batch)
        print(f"gave up on {len(batch)} events: {error!r}", file=sys.stderr, flush=True)

    # log_handler and debug only make the client tell what it does; everything else is its default
    client = Client(write_key, host=host, on_error=on_error, debug=True, log_handler=RetryWatch(report))
    sent = 0
    with open(ids_path, "w", encoding="utf-8") as ids:
        for number in range(count):
            queued, message = call(client, number)
            if not queued:
                raise SystemExit("the client's queue is full although it was flushed")
            ids.write(message["messageId"] + "\n")
            sent += 1
            if sent % PORTION == 0:
                client.flush()
                report.line(delivered=sent - report.failed)
    client.shutdown()
    name = f"segment-analytics-python {segment.__version__}"
    report.line(done={"sent": sent, "failed": report.failed, "retries": report.retries, "client": name})


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
