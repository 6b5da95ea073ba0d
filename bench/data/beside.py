"""What Evidently says of the demo's shop, day by day: of the untouched year, and of faults that are planted as `data_watch` plants them.

Usage: beside.py DAY_OF_A_FAULT … (as 2011-02-09)

Each day is compared with the 28 days before it, with the presets' own methods and thresholds; a slow shift also the last seven days with the 28
before those. Prints JSON.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset, DataSummaryPreset

SHOP = Path(__file__).resolve().parents[2] / "demo/online_retail.csv.zst"
NUMBERS = {"Product Ordered": ["price", "quantity", "amount"], "Order Completed": ["total", "lines", "pieces"]}
TEXTS = ["country"]
REFERENCE_DAYS = 28
# as long as data_watch waits for a fault
PATIENCE_DAYS = {"Shift": 45}
SUDDEN = ("Nulls", "Pence", "Renamed", "Stopped", "Doubled")
# which columns say what is wrong
RIGHT = {
    "Nulls": {("Product Ordered", "country")},
    "Pence": {("Product Ordered", "price"), ("Product Ordered", "amount"), ("Order Completed", "total")},
    "Renamed": {("Product Ordered", "country"), ("Order Completed", "country")},
    "Shift": {("Product Ordered", "price"), ("Product Ordered", "amount"), ("Order Completed", "total")},
}


def shop():
    """The lines and the orders, with the day that each was on."""
    lines = pd.read_csv(SHOP, dtype={"InvoiceNo": str, "StockCode": str}, keep_default_na=False)
    lines = lines[(lines.Quantity >= 0) & ~lines.InvoiceNo.str.startswith(("C", "A"))]
    lines = pd.DataFrame({
        "order": lines.InvoiceNo,
        "day": pd.to_datetime(lines.InvoiceDate, utc=True).dt.tz_localize(None).dt.normalize(),
        "price": lines.UnitPrice.astype(float).clip(lower=0.0),
        "quantity": lines.Quantity.astype(float),
        "country": lines.Country,
    })  # fmt: skip
    return lines


def planted(lines, fault, begin):
    lines = lines.copy()
    late = lines.day >= begin
    if fault == "Nulls":
        lines["line_country"] = lines.country.where(~late)
    if fault == "Pence":
        lines.loc[late, "price"] *= 100
    if fault == "Renamed":
        lines.loc[late & (lines.country == "United Kingdom"), "country"] = "UK"
    if fault == "Shift":
        days = (lines.day - begin).dt.days.clip(lower=-1) + 1
        lines["price"] *= 1.02**days
    lines["amount"] = (lines.price * lines.quantity).abs()
    by_order = lines.groupby("order", sort=False)
    orders = pd.DataFrame({
        "day": by_order.day.first(), "country": by_order.country.first(), "total": by_order.amount.sum(), "lines": by_order.size().astype(float),
        "pieces": by_order.quantity.sum(),
    })  # fmt: skip
    if fault == "Stopped":
        orders = orders[orders.day < begin]
    if fault == "Doubled":
        lines = pd.concat([lines, lines[late]])
    if fault == "Nulls":
        lines["country"] = lines.pop("line_country")
    return {"Product Ordered": lines, "Order Completed": orders}


def failing(events, day, length=1):
    """The tests that fail on a day, as (event, column or kind of test), by preset; and the seconds that it took."""
    found = {"drift": set(), "summary": set()}
    began = time.monotonic()
    for event, rows in events.items():
        end = day + pd.Timedelta(days=1)
        start = end - pd.Timedelta(days=length)
        current = rows[(rows.day >= start) & (rows.day < end)]
        reference = rows[(rows.day >= start - pd.Timedelta(days=REFERENCE_DAYS)) & (rows.day < start)]
        if current.empty or reference.empty:
            # it refuses to compare nothing: that is seen by whoever calls it
            if current.empty and not reference.empty:
                found["summary"].add((event, "nothing came"))
            continue
        columns = DataDefinition(numerical_columns=NUMBERS[event], categorical_columns=TEXTS)
        both = [Dataset.from_pandas(rows[NUMBERS[event] + TEXTS].reset_index(drop=True), columns) for rows in (current, reference)]
        for name, preset in (("drift", DataDriftPreset()), ("summary", DataSummaryPreset())):
            try:
                said = Report([preset], include_tests=True).run(*both).dict()
            except Exception as error:  # a column without any value is an error to some of its tests
                found[name].add((event, f"error: {type(error).__name__}"))
                continue
            for test in said["tests"]:
                if test["status"] == "FAIL":
                    parameters = test["metric_config"]["params"]
                    kind = parameters["type"].rsplit(":", 1)[-1]
                    subject = parameters.get("column") or kind
                    found[name].add((event, subject) if name == "drift" else (event, subject, kind))
    return found, time.monotonic() - began


def days_between(first, last):
    return pd.date_range(first, last, freq="D")


def untouched(lines, first, last):
    events = planted(lines, "None", last)
    seconds, said = 0.0, []
    before = {"drift": set(), "summary": set()}
    for day in days_between(first, last):
        found, took = failing(events, day)
        seconds += took
        new = {name: len(found[name] - before[name]) for name in found}
        said.append({"day": str(day.date()), **{name: len(found[name]) for name in found}, **{f"new_{name}": new[name] for name in new}})
        before = found
    return said, seconds


def is_right(fault, name, what):
    if fault == "Stopped":
        return what[0] == "Order Completed" and what[1] == "nothing came"
    if fault == "Doubled":
        return name == "summary" and what[0] == "Product Ordered" and what[-1] in ("RowCount", "DuplicatedRowCount")
    return what[:2] in RIGHT[fault]


def main(begins):
    warnings.filterwarnings("ignore")
    lines = shop()
    first, last = lines.day.min(), lines.day.max()
    year, seconds = untouched(lines, first + pd.Timedelta(days=REFERENCE_DAYS), last)
    print(f"untouched: {len(year)} days in {seconds:.0f} s", file=sys.stderr)
    faults = []
    for fault in (*SUDDEN, "Shift"):
        for begin in map(pd.Timestamp, begins):
            events = planted(lines, fault, begin)
            told = {}
            for after in range(PATIENCE_DAYS.get(fault, 3)):
                found, _ = failing(events, begin + pd.Timedelta(days=after), 7 if fault == "Shift" else 1)
                for name, tests in found.items():
                    right = [test for test in tests if is_right(fault, name, test)]
                    if right and name not in told:
                        told[name] = {"after": after, "of": len(tests), "as": sorted(map(str, right[0]))}
                if "drift" in told or (fault in ("Stopped", "Doubled") and "summary" in told):
                    break
            faults.append({"fault": fault, "from": str(begin.date()), **told})
            print(faults[-1], file=sys.stderr)
    print(json.dumps({"untouched": year, "seconds_a_day": seconds / len(year), "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1:])
