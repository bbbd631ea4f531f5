from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import load_config
from segmenter_plugin.errors import ConfigError, EventsError
from segmenter_plugin.stages.init import write_config
from segmenter_plugin.stages.simulate import simulate


@pytest.fixture
def events(tmp_path):
    first = datetime(2024, 1, 1, tzinfo=UTC)
    count = 400
    table = pa.table(
        {
            "customer_id": [row % 20 for row in range(count)],
            "product_id": [f"p{row % 50}" for row in range(count)],
            "event": [("view", "purchase")[row % 4 == 0] for row in range(count)],
            "event_time": pa.array(
                [first + timedelta(hours=12 * row) for row in range(count)], pa.timestamp("us", "UTC")
            ),
            "price": [float(row % 50) for row in range(count)],
        }
    )
    path = tmp_path / "lake" / "events.parquet"
    path.parent.mkdir()
    pq.write_table(table, path)
    return path


def test_the_path_is_found_from_the_folder_of_the_configuration(tmp_path, events, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config("lake/events.parquet", tmp_path / "elsewhere" / "deep" / "segmenter.toml")
    config = load_config(tmp_path / "elsewhere" / "deep" / "segmenter.toml")
    assert pq.read_table(config.events.path).num_rows == 400
    assert config.evaluation_cutoff >= max(config.labels_end(cutoff) for cutoff in config.training_cutoffs)


def test_a_configuration_is_not_overwritten_unasked(tmp_path, events):
    out = tmp_path / "segmenter.toml"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        write_config(str(events), out)
    assert out.read_text() == "mine"
    write_config(str(events), out, force=True)
    assert "[events]" in out.read_text()


def test_nothing_to_look_at_is_an_error(tmp_path):
    with pytest.raises(EventsError, match="no events"):
        write_config(str(tmp_path / "absent.parquet"), tmp_path / "segmenter.toml")
    assert not (tmp_path / "segmenter.toml").exists()


def test_a_simulated_shop_comes_with_a_configuration(tmp_path):
    result = simulate(50, 120, tmp_path / "out", start="2024-01-01", seed=3)
    config = load_config(result["config"])
    assert pq.read_table(config.events.path).num_rows > 0
    assert config.events.types["purchase"] == ("buy",)
    edited = tmp_path / "out" / "segmenter.toml"
    edited.write_text(edited.read_text() + "# mine\n")
    simulate(60, 120, tmp_path / "out", start="2024-01-01", seed=3)
    assert edited.read_text().endswith("# mine\n")
