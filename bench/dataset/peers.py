"""The same dataset by SQL engines: 20 windowed features about a person, as of each order (or each event) of a log.

usage: peers.py ENGINE FOLDER OBSERVE

ENGINE: duckdb-join, duckdb-window or polars. FOLDER: what `dataset_scale generate` made. OBSERVE: orders or events. Reads
FOLDER/flat.parquet, the log with its properties as typed columns, and writes FOLDER/ENGINE-OBSERVE.parquet.
"""

import sys
from pathlib import Path

DAYS = (1, 7, 30, 90)
ORDER, LINE = "name = 'Order Completed'", "name = 'Product Ordered'"


def columns(over):
    """The features; `over(days)` says what follows an aggregate's FILTER, which always restricts to the kind of event."""
    parts = []
    for days in DAYS:
        for name, call, kind in (
            ("orders", "count(*)", ORDER),
            ("products", "count(*)", LINE),
            ("spent", "sum(total)", ORDER),
            ("price", "avg(price)", LINE),
            ("largest", "max(amount)", LINE),
        ):
            parts.append(over(days, call, kind) + f" AS {name}_{days}d")
    return ", ".join(parts)


def duckdb_join(flat, observe, out):
    """A join of observations with the events of the longest window, then aggregates with a filter for each window."""
    import duckdb

    only = f"WHERE {ORDER}" if observe == "orders" else ""
    features = columns(
        lambda days, call, kind: f"{call} FILTER ({kind.replace('name', 'e.name')} AND e.happened > o.happened - INTERVAL {days} DAY)"
    )
    for field in ("total", "price", "amount"):
        features = features.replace(f"({field})", f"(e.{field})")
    duckdb.sql("SET threads = 2")
    duckdb.sql(
        f"""COPY (SELECT o.place, {features}
        FROM (SELECT place, person, happened FROM '{flat}' {only}) o
        JOIN '{flat}' e ON e.person = o.person AND e.happened > o.happened - INTERVAL 90 DAY AND e.happened <= o.happened
        GROUP BY o.place) TO '{out}' (FORMAT parquet)"""
    )


def duckdb_window(flat, observe, out):
    """Window functions over a range of time for each window, and a filter on what is observed."""
    import duckdb

    only = f"WHERE {ORDER}" if observe == "orders" else ""
    windows = ", ".join(
        f"w{days} AS (PARTITION BY person ORDER BY happened RANGE BETWEEN INTERVAL '{days} days' - INTERVAL 1 MICROSECOND PRECEDING AND CURRENT ROW)"
        for days in DAYS
    )
    features = columns(lambda days, call, kind: f"{call} FILTER ({kind}) OVER w{days}")
    duckdb.sql("SET threads = 2")
    duckdb.sql(
        f"""COPY (SELECT * EXCLUDE name FROM (SELECT place, name, {features} FROM '{flat}' WINDOW {windows}) {only})
        TO '{out}' (FORMAT parquet)"""
    )


def polars(flat, observe, out):
    """A rolling group for each window, joined on the place of the event."""
    import polars as pl

    events = pl.scan_parquet(flat).sort("person", "happened", "place")
    is_order, is_line = pl.col("name") == "Order Completed", pl.col("name") == "Product Ordered"
    result = None
    for days in DAYS:
        rolled = events.rolling(index_column="happened", period=f"{days}d", group_by="person", closed="right").agg(
            pl.col("place").last(),
            pl.col("name").last(),
            is_order.sum().alias(f"orders_{days}d"),
            is_line.sum().alias(f"products_{days}d"),
            pl.col("total").filter(is_order).sum().alias(f"spent_{days}d"),
            pl.col("price").filter(is_line).mean().alias(f"price_{days}d"),
            pl.col("amount").filter(is_line).max().alias(f"largest_{days}d"),
        )
        if observe == "orders":
            rolled = rolled.filter(pl.col("name") == "Order Completed")
        rolled = rolled.drop("person", "happened", "name")
        result = rolled if result is None else result.join(rolled, on="place")
    result.collect(engine="streaming").write_parquet(out)


if __name__ == "__main__":
    engine, folder, observe = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    run = {"duckdb-join": duckdb_join, "duckdb-window": duckdb_window, "polars": polars}[engine]
    run(folder / "flat.parquet", observe, folder / f"{engine}-{observe}.parquet")
