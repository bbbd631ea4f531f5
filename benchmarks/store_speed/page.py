"""What was measured, as a Markdown page and as the ratios that the last line names."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from store_speed.plan import LOOKUP_USERS, MATERIALISE, Measured

ABOUT = {
    "redis_default": "stock, default",
    "redis_tuned": "stock, tuned",
    "redis_arrow": "ours",
    "redis_packed": "ours, packed layout",
    "sqlite_default": "stock, default",
    "sqlite_tuned": "stock, tuned",
    "sqlite_arrow": "ours",
    "floor_resp": "floor: ready RESP bytes, one socket",
    "floor_redis_py": "floor: redis-py pipeline of ready bytes",
    "floor_sqlite": "floor: executemany of ready tuples",
    "redis_stock": "stock, to_dict",
    "redis_arrow_numpy": "ours, to_numpy",
    "redis_precomputed_stock": "stock, precompute_online, to_dict",
    "redis_precomputed_arrow": "ours, precompute_online, to_dict",
    "redis_packed_numpy": "ours, packed layout, to_numpy",
    "floor_hmget": "floor: redis-py HMGET, frombuffer",
    "floor_mget": "floor: redis-py MGET of packed rows, frombuffer",
    "sqlite_stock": "stock, to_dict",
}


def middle(values: Sequence[float]) -> float:
    """Median."""
    return statistics.median(values)


def store_of(contestant: str) -> str:
    """Which store a contestant stands beside."""
    return "SQLite" if "sqlite" in contestant else "Redis"


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *lines)]


def seconds_of(measured: Measured, contestant: str, rows: int, dim: int, field: str = "seconds") -> list[float]:
    """One number of all rounds."""
    found = measured.of("materialize", contestant=contestant, rows=rows, dim=dim)
    return [result[field] for result in found.values() if field in result]


def sizes_of(measured: Measured, part: str) -> list[tuple[int, int]]:
    """(rows, D) that were measured."""
    return sorted({(run.rows, run.dim) for run in measured.of(part)})


def materialise_lines(measured: Measured) -> list[list[object]]:
    """One line a contestant and size."""
    lines: list[list[object]] = []
    for rows, dim in sizes_of(measured, "materialize"):
        for contestant in MATERIALISE:
            took = seconds_of(measured, contestant, rows, dim)
            if not took:
                continue
            peaks = seconds_of(measured, contestant, rows, dim, "peak_mb")
            imports = seconds_of(measured, contestant, rows, dim, "imports_mb")
            memory = [f"{middle(peaks):,.0f}", f"{middle(peaks) - middle(imports):,.0f}"] if peaks else ["", ""]
            spread = f"{middle(took):.2f} ({min(took):.2f} to {max(took):.2f})"
            speed = f"{rows / middle(took):,.0f}"
            name = [store_of(contestant), ABOUT[contestant]]
            lines.append([f"{rows:,}", dim, *name, spread, speed, *memory, len(took)])
    return lines


def lookup_lines(measured: Measured) -> list[list[object]]:
    """One line a contestant and D."""
    lines: list[list[object]] = []
    for run, result in measured.of("lookup").items():
        for contestant, took in result["ms"].items():
            about = ABOUT[contestant]
            if contestant in ("redis_arrow", "redis_packed", "sqlite_arrow"):
                about += ", to_dict"
            cells = [
                f"{np.percentile(took[str(users)], 50):.3f} / {np.percentile(took[str(users)], 99):.3f}"
                for users in LOOKUP_USERS
            ]
            lines.append([run.dim, store_of(contestant), about, *cells])
    return lines


def concurrent_lines(measured: Measured) -> list[list[object]]:
    """Two lines a contestant: alone, and beside the writer."""
    lines: list[list[object]] = []
    for run, result in measured.of("concurrent").items():
        for when in ("alone", "beside"):
            found = result[when]
            speed = f"{found['users_per_second']:,.0f}"
            times = [f"{found[name]:.1f}" if found[name] else "" for name in ("p50_ms", "p99_ms")]
            errors = "; ".join(f"{count} x {text}" for text, count in found["errors"].items()) or "0"
            versions = result["writer"]["versions"] if when == "beside" else 0
            written = f"{versions * run.rows / result['writer']['seconds']:,.0f}"
            name = [store_of(run.contestant), ABOUT[run.contestant]]
            lines.append([*name, written, speed, *times, errors, found["torn_rows"]])
    return lines


def ratios(measured: Measured) -> dict[str, Any]:
    """The ratios by which the stores are judged: of the largest size, at the smallest D; all sizes below ``sizes``."""
    found: dict[str, Any] = {}
    sizes = sizes_of(measured, "materialize")
    if sizes:
        dim = min(size[1] for size in sizes)
        largest = max(size[0] for size in sizes if size[1] == dim)
        found |= {"rows": largest, "dim": dim} | _materialise_ratios(measured, largest, dim)
        found |= _growth(measured, dim)
        found["sizes"] = {
            f"{rows}x{size_dim}": _materialise_ratios(measured, rows, size_dim) for rows, size_dim in sizes
        }
    lookups = {run.dim: result["ms"] for run, result in measured.of("lookup").items()}
    if lookups:
        found |= _lookup_ratios(lookups[min(lookups)])
        found["lookup_by_dim"] = {str(dim): _lookup_ratios(took) for dim, took in lookups.items()}
    beside = measured.of("concurrent").items()
    found["concurrent_errors"] = {run.contestant: sum(r["beside"]["errors"].values()) for run, r in beside}
    found["concurrent_torn_rows"] = {run.contestant: result["beside"]["torn_rows"] for run, result in beside}
    return found


def _ratio(above: Sequence[float], below: Sequence[float]) -> float | None:
    return round(middle(above) / middle(below), 3) if above and below else None


def _materialise_ratios(measured: Measured, rows: int, dim: int) -> dict[str, float | None]:
    def of(contestant: str, field: str = "seconds") -> list[float]:
        return seconds_of(measured, contestant, rows, dim, field)

    def net(contestant: str) -> list[float]:
        return [peak - own for peak, own in zip(of(contestant, "peak_mb"), of(contestant, "imports_mb"), strict=True)]

    return {
        "materialize_redis_vs_tuned": _ratio(of("redis_tuned"), of("redis_arrow")),
        "materialize_redis_vs_default": _ratio(of("redis_default"), of("redis_arrow")),
        "materialize_sqlite_vs_default": _ratio(of("sqlite_default"), of("sqlite_arrow")),
        "materialize_redis_vs_floor": _ratio(of("redis_arrow"), of("floor_resp")),
        "memory_vs_default": _ratio(of("redis_arrow", "peak_mb"), of("redis_default", "peak_mb")),
        "memory_over_imports_vs_default": _ratio(net("redis_arrow"), net("redis_default")),
    }


def _growth(measured: Measured, dim: int) -> dict[str, float]:
    """Bytes of peak memory that each further user costs, from the smallest size to the largest."""
    peaks = {
        rows: middle(found)
        for rows, size_dim in sizes_of(measured, "materialize")
        if size_dim == dim and (found := seconds_of(measured, "redis_arrow", rows, dim, "peak_mb"))
    }
    if len(peaks) < 2:
        return {}
    low, high = min(peaks), max(peaks)
    return {"memory_bytes_per_user": round((peaks[high] - peaks[low]) * 2**20 / (high - low), 1)}


def _lookup_ratios(took: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    def ratio(above: str, below: str, users: int, percent: int) -> float | None:
        if above not in took or below not in took:
            return None
        high, low = (np.percentile(took[name][str(users)], percent) for name in (above, below))
        return round(float(high / low), 2)

    found: dict[str, Any] = {
        f"{name}_{how}_vs_stock": {str(users): ratio(stock, ours, users, percent) for users in LOOKUP_USERS}
        for name, stock, ours in (
            ("lookup", "redis_stock", "redis_arrow"),
            ("lookup_sqlite", "sqlite_stock", "sqlite_arrow"),
        )
        for how, percent in (("p50", 50), ("p99", 99))
    }
    most = LOOKUP_USERS[-1]
    found["packed_500_vs_stock"] = ratio("redis_stock", "redis_packed_numpy", most, 50)
    found["packed_500_vs_floor"] = ratio("redis_packed_numpy", "floor_mget", most, 50)
    return found


VIEW = (
    "One view: `Array(Float32)[D]`, three `Float32`, one `String`; one row a user, all of one cutoff, ids `u0000001`, "
    "... as strings. Redis without persistence, SQLite in a file; both on the machine that also runs the client. "
    "Contestants alternate; the garbage collector is as Feast leaves it. *Default* sets nothing but the online store; "
    "*tuned* has offline store duckdb, `pull_latest_features`, `online_write_batch_size: 10000` and, in Redis, "
    "`skip_dedup`."
)
MATERIALISATION = (
    "Seconds: median (least to most). Memory: the most that was resident, and how much of it came after imports and a "
    "small first run, MB."
)
LOOKUP = (
    "Milliseconds, p50 / p99, of `get_online_features` with a feature service and what is made of the answer, by "
    "number of users asked for. Feast answers a `precompute_online` service under full feature names only, so these "
    "are asked that way."
)
CONCURRENT = (
    "One reading process, 50 users a call, every row checked. The first line of each pair is without the writer, which "
    "otherwise brings one version after another online."
)


def page(measured: Measured, command: str, machine: str) -> str:
    """The whole page."""
    sizes = ("users", "D", "store", "who", "seconds", "users/s", "peak MB", "over imports MB", "runs")
    asked = ("D", "store", "who", *(f"{users} users" for users in LOOKUP_USERS))
    beside = ("store", "who", "rows written/s", "users read/s", "p50 ms", "p99 ms", "errors", "torn rows")
    chapters = (
        ("Materialisation, in process", MATERIALISATION, sizes, materialise_lines(measured)),
        ("Lookups", LOOKUP, asked, lookup_lines(measured)),
        ("Eight threads read while another process materialises", CONCURRENT, beside, concurrent_lines(measured)),
    )
    lines = ["# Feast's engine and online stores beside ours", "", f"`{command}`; {machine}.", "", VIEW, ""]
    for title, about, head, content in chapters:
        if content:
            lines += [f"## {title}", "", about, "", *table(head, content), ""]
    failures = measured.failures()
    if failures:
        lines += ["## Failed", "", *(f"- {run}: {text}" for run, text in failures.items()), ""]
    return "\n".join(lines)
