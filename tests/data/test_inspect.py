"""`segmenter init` on shops of different shapes: the mapping that a person would write, with at most two hand edits."""

import csv
import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.complete_journey import write_events
from segmenter_plugin.data.inspect import Guess, inspect_events, render_config
from segmenter_plugin.data.shop import events_section, simulate
from segmenter_plugin.errors import EventsError

TAOBAO = Path(__file__).parents[3] / "shared" / "data" / "taobao" / "user_behavior.parquet"
START = np.datetime64("2019-11-01T00:00:00", "s")


def written(tmp_path: Path, path: Path | str) -> tuple[Guess, Config, str]:
    """What `segmenter init` guesses and writes, read back."""
    guess = inspect_events(str(path))
    text = render_config(guess)
    file = tmp_path / "segmenter.toml"
    file.write_text(text, encoding="utf-8")
    return guess, load_config(file), text


def hand_edits(found: Config, wanted: dict[str, object]) -> list[str]:
    """Keys of `[events]` in which the guess differs from what a person would write."""
    events = found.events.model_dump()
    flat = {**events.pop("columns"), **{f"types.{name}": owners for name, owners in events.pop("types").items()}}
    flat |= {key: events[key] for key in ("format", "timezone", "timestamp_unit", "price_is", "constant_event_type")}
    expected = (
        dict.fromkeys(flat) | {"categorical": (), "numeric": (), "price_is": "unit", "format": "parquet"} | wanted
    )
    return sorted(key for key in {*flat, *expected} if flat.get(key) != expected.get(key))


def write_csv(path: Path, header: str, rows: list[tuple[object, ...]]) -> Path:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    content = stream.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def checks(text: str) -> list[str]:
    """Lines that ask to be looked at; the heading, which explains the mark, is none."""
    return [line for line in text.splitlines()[2:] if "# check:" in line]


def times(count: int, days: float, rng: np.random.Generator) -> np.ndarray:
    return START + np.sort(rng.integers(0, int(days * 86_400), count)).astype("timedelta64[s]")


def order_lines(path: Path, rows: int = 12_000) -> Path:
    """Lines of invoices in the shape of UCI's Online Retail: returns have a negative quantity."""
    rng = np.random.default_rng(3)
    prices = np.round(np.exp(rng.normal(1, 0.7, 300)), 2)
    lines: list[tuple[object, ...]] = []
    for number, at in enumerate(times(rows // 8, 373, rng)):
        customer, is_return = int(rng.integers(12_346, 12_900)), rng.random() < 0.02
        for item in rng.integers(0, 300, 8):
            quantity = -int(rng.integers(1, 5)) if is_return else int(rng.integers(1, 25))
            lines.append(
                (
                    f"{'C' if is_return else ''}{536_365 + number}",
                    f"{84_000 + item}{'A' if item % 7 == 0 else ''}",
                    f"WHITE METAL LANTERN {item}",
                    quantity,
                    str(at).replace("T", " "),
                    prices[item],
                    "" if number % 5 == 0 else customer,
                    "United Kingdom" if customer % 9 else "France",
                )
            )
    return write_csv(path, "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country", lines)


def shop_log(path: Path, rows: int = 12_000) -> Path:
    """A click log in the shape of REES46's: categories as number and code, times that end in UTC."""
    rng = np.random.default_rng(4)
    kinds = rng.choice(["view", "cart", "purchase", "remove_from_cart"], rows, p=[0.9, 0.05, 0.03, 0.02])
    lines: list[tuple[object, ...]] = []
    for number, (at, kind) in enumerate(zip(times(rows, 30, rng), kinds, strict=True)):
        user, item = int(rng.integers(0, 900)), int(rng.integers(0, 400))
        code = "" if item % 3 == 0 else f"electronics.kind{item % 40}"
        brand = "" if item % 4 == 0 else f"brand{item % 30}"
        lines.append(
            (
                f"{str(at).replace('T', ' ')} UTC", kind, 1_000_000 + item, 2_053_013_550_000_000_000 + item % 60, code,
                brand, round(5 + item * 0.37, 2), 512_000_000 + user, f"{user:08x}-0000-4000-8000-{number // 4:012x}",
            )
        )  # fmt: skip
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
    return write_csv(path, header, lines)


def test_complete_journey(tmp_path: Path) -> None:
    guess, config, text = written(tmp_path, write_events(tmp_path / "events"))
    assert hand_edits(
        config,
        {
            "user_id": "household_id", "item_id": "product_id", "event_type": "action",
            "event_timestamp": "transaction_timestamp", "order_id": "basket_id", "category": "product_category",
            "brand": "brand", "price": "sales_value", "quantity": "quantity", "categorical": ("department",),
            "numeric": ("retail_disc", "coupon_disc", "coupon_match_disc"), "price_is": "line", "timezone": "UTC",
            "types.purchase": ("purchase_line",), "types.coupon_redemption": ("coupon_redemption",),
            "types.campaign_receipt": ("campaign_receipt",),
        },
    ) == []  # fmt: skip
    assert len(checks(text)) == 1
    assert guess.row_count == 1_477_998
    assert guess.last.date() == datetime(2018, 1, 1).date()  # noqa: DTZ001
    assert [task.label_column for task in config.tasks] == ["purchase_14d_label", "spend_28d_label"]
    assert len(config.training_cutoffs) == 4


def test_simulated_shop(tmp_path: Path) -> None:
    folder = simulate(400, 200, 7, datetime(2024, 1, 1, tzinfo=UTC)).write(tmp_path / "shop")
    section = events_section("")
    wanted = {**section["columns"], **{f"types.{name}": tuple(owners) for name, owners in section["types"].items()}}
    guess, config, text = written(tmp_path, folder / "events")
    assert hand_edits(config, wanted) == []
    assert checks(text) == []
    assert guess.last > datetime(2024, 7, 18, tzinfo=UTC)


@pytest.mark.skipif(not TAOBAO.exists(), reason="the Taobao sample lies beside the project, not in it")
def test_taobao_clicks_with_stray_times(tmp_path: Path) -> None:
    guess, config, _ = written(tmp_path, TAOBAO)
    assert hand_edits(
        config,
        {
            "user_id": "user_id", "item_id": "item_id", "event_type": "behavior", "event_timestamp": "timestamp",
            "category": "category_id", "timestamp_unit": "s", "types.view": ("pv",), "types.cart": ("cart",),
            "types.favourite": ("fav",), "types.purchase": ("buy",),
        },
    ) == []  # fmt: skip
    assert guess.first.date() == datetime(2017, 11, 24).date()  # noqa: DTZ001
    earliest = config.time(config.events.earliest_timestamp)
    assert datetime(2017, 11, 20, tzinfo=UTC) < earliest < datetime(2017, 11, 25, tzinfo=UTC)
    assert config.tasks[0].prediction_days == 1
    assert len(config.tasks) == 1
    assert len(config.training_cutoffs) == 4


def test_order_lines_without_a_type_column(tmp_path: Path) -> None:
    _, config, text = written(tmp_path, order_lines(tmp_path / "lines.csv"))
    assert hand_edits(
        config,
        {
            "user_id": "CustomerID", "item_id": "StockCode", "event_timestamp": "InvoiceDate", "order_id": "InvoiceNo",
            "price": "UnitPrice", "quantity": "Quantity", "text": "Description", "categorical": ("Country",),
            "format": "csv", "timezone": "UTC", "constant_event_type": "purchase", "types.purchase": ("purchase",),
            "types.return": ("return",),
        },
    ) == []  # fmt: skip
    assert "negative: returns" in text
    assert len(checks(text)) == 1


def test_click_log_with_two_category_columns(tmp_path: Path) -> None:
    _, config, text = written(tmp_path, shop_log(tmp_path / "2019-Nov.csv"))
    assert hand_edits(
        config,
        {
            "user_id": "user_id", "item_id": "product_id", "event_type": "event_type", "event_timestamp": "event_time",
            "session_id": "user_session", "category": "category_id", "brand": "brand", "price": "price",
            "categorical": ("category_code",), "format": "csv", "types.view": ("view",), "types.cart": ("cart",),
            "types.purchase": ("purchase",), "types.remove_from_cart": ("remove_from_cart",),
        },
    ) == []  # fmt: skip
    assert checks(text) == []


def frame(days: float = 120, rows: int = 3_000, **columns: Callable[[np.ndarray], object]) -> pa.Table:
    """A table of columns made from users 0..199 and items 0..99, with the times of `days`."""
    rng = np.random.default_rng(5)
    users, items, at = rng.integers(0, 200, rows), rng.integers(0, 100, rows), times(rows, days, rng)
    seconds = at.astype("datetime64[s]").astype(np.int64)
    made = {"u": users, "i": items, "t": seconds, "n": np.arange(rows)}
    return pa.table({name: make(made[name_of(make)]) for name, make in columns.items()})


def name_of(make: Callable[[np.ndarray], object]) -> str:
    return make.__code__.co_varnames[0]


def words(*values: str) -> Callable[[np.ndarray], object]:
    return lambda n: np.array(values)[(n * 7919 % 100 * len(values)) // 100]


def parquet(tmp_path: Path, table: pa.Table) -> Path:
    pq.write_table(table, tmp_path / "events.parquet")
    return tmp_path / "events.parquet"


def test_milliseconds_and_run_together_names(tmp_path: Path) -> None:
    table = frame(
        timestamp=lambda t: t * 1_000,
        visitorid=lambda u: u,
        event=words("view", "view", "addtocart", "transaction"),
        itemid=lambda i: i,
    )
    _, config, _ = written(tmp_path, parquet(tmp_path, table))
    assert config.events.timestamp_unit == "ms"
    assert config.events.types == {"view": ("view",), "cart": ("addtocart",), "purchase": ("transaction",)}
    assert (config.events.columns.user_id, config.events.columns.item_id) == ("visitorid", "itemid")


def test_ids_that_look_like_decimals_and_microseconds(tmp_path: Path) -> None:
    table = frame(
        event_timestamp=lambda t: t * 1_000_000,
        event_name=words("page_view", "view_item", "add_to_cart", "begin_checkout", "purchase"),
        user_pseudo_id=lambda u: np.array([f"{number}.{number}7" for number in u]),
        ga_session_id=lambda t: t // 3_600,
        item_id=lambda i: np.array([f"i{number}" for number in i]),
        price=lambda i: i * 0.5 + 1,
    )
    _, config, _ = written(tmp_path, parquet(tmp_path, table))
    assert config.events.columns.user_id == "user_pseudo_id"
    assert config.events.columns.session_id == "ga_session_id"
    assert config.events.timestamp_unit == "us"
    assert config.events.types["view"] == ("page_view", "view_item")
    assert config.events.types["begin_checkout"] == ("begin_checkout",)


def test_event_types_as_numbers_are_told_to_be_named(tmp_path: Path) -> None:
    table = frame(
        time=lambda t: t, user_id=lambda u: u, item_id=lambda i: i, action_type=lambda n: np.where(n % 10 == 0, 2, 0)
    )
    _, config, text = written(tmp_path, parquet(tmp_path, table))
    assert config.events.columns.event_type == "action_type"
    assert config.events.types == {"type_0": ("0",), "type_2": ("2",)}
    assert "# check: numbers" in text
    assert config.tasks[0].event_type == "type_2"


def test_the_session_stands_for_a_user_that_nobody_names(tmp_path: Path) -> None:
    table = frame(session=lambda u: u, aid=lambda i: i, ts=lambda t: t * 1_000, type=words("clicks", "carts", "orders"))
    _, config, text = written(tmp_path, parquet(tmp_path, table))
    assert config.events.columns.user_id == "session"
    assert config.events.columns.session_id is None
    assert "# check: no name says user" in text


def test_of_two_times_the_one_when_it_happened(tmp_path: Path) -> None:
    table = frame(
        id=lambda n: n,
        updatedAt=lambda t: np.array([f"{second}Z" for second in (t + 900).astype("datetime64[s]")]),
        createdAt=lambda t: np.array([f"{second}Z" for second in t.astype("datetime64[s]")]),
        clientId=lambda u: u,
        articleNumber=lambda i: np.array([f"x{number}" for number in i]),
        eventType=words("ProductViewed", "ProductAdded", "OrderCompleted", "Refund"),
        revenue=lambda i: i * 0.5 + 1,
    )
    _, config, text = written(tmp_path, parquet(tmp_path, table))
    assert config.events.columns.event_timestamp == "createdAt"
    assert config.events.columns.event_id == "id"
    assert config.events.timezone is None
    assert set(config.events.types) == {"view", "cart", "purchase", "return"}
    assert checks(text) == []


def test_a_lines_price_is_told_from_a_units(tmp_path: Path) -> None:
    def shop(price: Callable[[np.ndarray], object]) -> Config:
        table = frame(
            date=lambda t: t.astype("datetime64[s]"), customer_id=lambda u: u, sku=lambda i: i, price=price,
            qty=lambda n: 1 + n % 5,
        )  # fmt: skip
        return written(tmp_path, parquet(tmp_path, table))[1]

    items = frame(sku=lambda i: i)["sku"].to_numpy()
    assert shop(lambda i: 1 + i * 0.1).events.price_is == "unit"
    assert shop(lambda n: (1 + items * 0.1) * (1 + n % 5)).events.price_is == "line"


@pytest.mark.parametrize("days", [3, 9, 25, 60, 120, 200, 365, 800])
def test_training_windows_end_before_the_evaluation_begins(tmp_path: Path, days: int) -> None:
    table = frame(
        days=days,
        time=lambda t: t,
        user_id=lambda u: u,
        item_id=lambda i: i,
        price=lambda i: i * 0.5,
        kind=words("buy"),
    )
    guess, config, _ = written(tmp_path, parquet(tmp_path, table))
    longest = max(timedelta(days=task.gap_days + task.prediction_days) for task in config.tasks)
    assert guess.evaluation_cutoff + longest <= guess.last
    assert all(cutoff + longest <= guess.evaluation_cutoff for cutoff in config.training_cutoffs)
    assert all(cutoff > guess.first for cutoff in config.training_cutoffs)
    assert config.training_cutoffs or days < 7
    assert config.windows.observation_days <= days + 1


def test_folders_globs_and_compressed_csv(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    shop_log(folder / "b.csv", 500)
    shop_log(folder / "a.csv", 500)
    (folder / "_SUCCESS").touch()
    (folder / ".b.csv.crc").touch()
    for path in (str(folder), str(folder / "*.csv")):
        guess = inspect_events(path)
        assert (guess.format, guess.sampled_rows) == ("csv", 1_000)
    shop_log(tmp_path / "c.csv.gz", 500)
    assert inspect_events(str(tmp_path / "c.csv.gz")).columns["user_id"] == "user_id"


def test_a_long_csv_is_sampled_at_both_ends(tmp_path: Path) -> None:
    seconds = 1_500_000_000 + np.arange(300_000) * 60
    rows = [
        (number % 500, number % 100, second, "Käse" if number % 2 else "Brot") for number, second in enumerate(seconds)
    ]
    guess = inspect_events(str(write_csv(tmp_path / "long.csv", "user_id,item_id,time,category", rows)))
    assert guess.sampled_rows < 250_000
    assert guess.last == datetime.fromtimestamp(int(seconds[-1]), UTC)


def test_latin_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    lines = [f"{number % 9},{number % 7},{1_500_000_000 + number * 900},Käse" for number in range(500)]
    path.write_bytes("\n".join(["user_id,item_id,time,category", *lines]).encode("latin-1"))
    assert inspect_events(str(path)).columns["user_id"] == "user_id"


def test_odd_values_survive_into_the_configuration(tmp_path: Path) -> None:
    table = frame(
        time=lambda t: t, user_id=lambda u: u, item_id=lambda i: i, action=words('Buy "now"', "vue détaillée", "pv\\x")
    )
    _, config, _ = written(tmp_path, parquet(tmp_path, table))
    assert {name for owners in config.events.types.values() for name in owners} == {
        'Buy "now"', "vue détaillée", "pv\\x",
    }  # fmt: skip


def bad(tmp_path: Path, name: str, content: str) -> str:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "is empty"),
        ("header.csv", "user_id,item_id,time\n", "no rows"),
        ("semicolons.csv", "user_id;item_id;time\n1;2;3\n", "not separated by commas"),
        ("events.json", "{}", "neither Parquet nor CSV"),
        ("broken.parquet", "PAR1 and nothing", "cannot be read as parquet"),
        ("no_time.csv", "user_id,item_id\n1,2\n2,3\n", "when an event happened"),
        ("other_time.csv", "user_id,item_id,date\n1,2,03/05/2015 03:08\n2,3,03/05/2015 03:09\n", "03/05/2015 03:08"),
        ("no_user.csv", "item_id,time\n2,1500000000\n3,1500000001\n", "whose event it was"),
        ("no_item.csv", "user_id,time\n2,1500000000\n3,1500000001\n", "what it was about"),
    ],
)
def test_what_cannot_be_guessed_is_said_with_a_way_out(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(EventsError, match=message) as error:
        inspect_events(bad(tmp_path, name, content))
    assert error.value.hint


def test_nothing_there_and_two_formats_at_once(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match="there are no events at"):
        inspect_events(str(tmp_path / "nowhere"))
    parquet(tmp_path, frame(time=lambda t: t, user_id=lambda u: u, item_id=lambda i: i))
    shop_log(tmp_path / "b.csv", 10)
    with pytest.raises(EventsError, match="both Parquet and CSV"):
        inspect_events(str(tmp_path))


def test_stray_times_are_bounded_out_and_do_not_stretch_the_windows(tmp_path: Path) -> None:
    def moved(t: np.ndarray) -> object:
        stray = t.copy()
        stray[:3], stray[-2:] = 700_000_000, 2_000_000_000
        return stray

    table = frame(days=100, time=moved, user_id=lambda u: u, item_id=lambda i: i, kind=words("buy"))
    guess, config, text = written(tmp_path, parquet(tmp_path, table))
    assert guess.days < 101
    begin = datetime(2019, 11, 1, tzinfo=UTC)
    reach = timedelta(days=27)
    assert begin - reach < config.time(config.events.earliest_timestamp) <= begin
    assert begin + timedelta(days=100) <= config.time(str(config.events.latest_timestamp)) < begin + 4 * reach + reach
    assert "5 sampled rows lie outside" in text
    clean = frame(days=100, time=lambda t: t, user_id=lambda u: u, item_id=lambda i: i, kind=words("buy"))
    assert "earliest_timestamp" not in written(tmp_path, parquet(tmp_path, clean))[2]
