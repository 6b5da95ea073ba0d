"""The log of a generated lake as one Parquet file with typed columns, for the peers: they need not read JSON.

usage: flatten.py FOLDER
"""

import sys
from pathlib import Path

import duckdb

folder = Path(sys.argv[1])
events = folder / "lake/scale/events/*/*.parquet"
number = "CAST(json_extract_string(properties, '$.{0}') AS DOUBLE) AS {0}"
fields = ", ".join(number.format(field) for field in ("total", "price", "amount"))
duckdb.sql("SET threads = 2")
duckdb.sql(
    f"""COPY (SELECT "offset" AS place, CAST(user_id AS INTEGER) AS person, name, CAST("timestamp" AS TIMESTAMP) AS happened, {fields}
    FROM '{events}' ORDER BY "offset") TO '{folder / "flat.parquet"}' (FORMAT parquet)"""
)
