from pathlib import Path

import pytest

from segmenter_plugin.config import Config, load_config, parse_config
from segmenter_plugin.errors import ConfigError

PROJECT = Path(__file__).parents[1]

MINIMAL = """
[events]
path = "events/*.parquet"
timezone = "UTC"
[events.columns]
user_id = "u"
item_id = "i"
event_type = "t"
event_timestamp = "at"
"""


def test_the_example_configuration_is_valid_and_shows_every_key():
    text = (PROJECT / "segmenter.toml").read_text(encoding="utf-8")
    assert isinstance(load_config(PROJECT / "segmenter.toml"), Config)
    for name, field in Config.model_fields.items():
        assert f"[{name}]" in text or f"[[{name}]]" in text
        for key in getattr(field.annotation, "model_fields", {}):
            assert key in text, f"[{name}] {key} is not shown in segmenter.toml"


def test_relative_paths_are_taken_from_the_file(tmp_path):
    (tmp_path / "segmenter.toml").write_text(MINIMAL + '[store]\nroot = "runs/mine"\n')
    config = load_config(tmp_path / "segmenter.toml")
    assert config.events.path == str(tmp_path / "events/*.parquet")
    assert config.root_path == tmp_path / "runs/mine"
    assert config.store.feature_repo == str(tmp_path / "feature_repo")


def test_overrides_replace_single_values(tmp_path):
    (tmp_path / "segmenter.toml").write_text(MINIMAL)
    config = load_config(
        tmp_path / "segmenter.toml", ("encoder.preset=base", "finetune.epochs=2", "windows.activity_days=[3, 30]")
    )
    assert (config.encoder.preset, config.finetune.epochs) == ("base", 2)
    assert config.windows.activity_days == (3, 30)


@pytest.mark.parametrize("override", ["encoder", "encoder=base", ".x=1", "=1", "events.path.x=1"])
def test_a_malformed_override_is_refused(tmp_path, override):
    (tmp_path / "segmenter.toml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match="--set"):
        load_config(tmp_path / "segmenter.toml", (override,))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file .*absent\.toml") as caught:
        load_config(tmp_path / "absent.toml")
    assert "segmenter init" in caught.value.hint
    (tmp_path / "broken.toml").write_text("[events\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "broken.toml")


def test_an_unknown_key_names_the_nearest(tree):
    with pytest.raises(ConfigError, match=r"encoder\.presett is not a key") as caught:
        parse_config(tree | {"encoder": {"presett": "small"}})
    assert "'preset'" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        parse_config(tree | {"tasks": [{"name": "x", "kind": "binary", "prediction_day": 3, "prediction_days": 3}]})
    assert "'prediction_days'" in caught.value.hint


def _events(tree, **changes):
    return tree | {"events": tree["events"] | changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: _events(tree, path=None), "either path"),
        (lambda tree: _events(tree, table="shop.events"), "either path"),
        (lambda tree: _events(tree, constant_event_type="purchase"), "either columns.event_type"),
        (lambda tree: _events(tree, types={"view": ["x"], "purchase": ["x"]}), "more than one event type"),
        (lambda tree: _events(tree, types={"view": ["seen"]}), "purchase"),
        (lambda tree: _events(tree, timezone="Nowhere/City"), "not a known zone"),
        (lambda tree: _events(tree, columns=tree["events"]["columns"] | {"numeric": ["amount"]}), "names of ours"),
        (lambda tree: _events(tree, latest_timestamp="1980-01-01"), "latest_timestamp"),
        (lambda tree: tree | {"windows": {"activity_days": [28, 7]}}, "ascending"),
        (lambda tree: tree | {"windows": {"activity_days": [400]}}, "longer than observation_days"),
        (
            lambda tree: tree | {"contract": {"warn_quarantined_share": 0.2, "stop_quarantined_share": 0.1}},
            r"warn_quarantined_share = 0\.2 is above stop_quarantined_share = 0\.1",
        ),
        (lambda tree: _events(tree, format="or c"), "pattern"),
        (lambda tree: _events(tree, format="csv", options={"sep": ";"}), "options = .* Spark's own reader"),
        (lambda tree: _events(tree, path=None, table="shop.events", format="orc", options={"a": "b"}), "options ="),
        (lambda tree: tree | {"windows": {"trend_columns": ["brand"]}}, r"allowed are .*\['category', 'item_id'\]"),
        (lambda tree: tree | {"windows": {"trend_columns": ["item_id", "item_id"]}}, "the same column twice"),
        (
            lambda tree: (
                _events(tree, columns=tree["events"]["columns"] | {"numeric": ["item_trend"]})
                | {"windows": {"trend_columns": ["item_id"]}}
            ),
            r"numeric columns \['item_trend'\]",
        ),
        (lambda tree: tree | {"training": {"cutoffs": ["2017-13-01"]}}, "not a time"),
        (lambda tree: tree | {"training": {"cutoffs": ["2017-01-01", "2017-01-01T00:00:00Z"]}}, "repeats"),
        (
            lambda tree: tree | {"training": {"cutoffs": ["2017-01-01"], "evaluation_cutoff": "2017-01-14"}},
            "would have seen what they are judged on",
        ),
        (lambda tree: tree | {"tasks": [tree["tasks"][0], tree["tasks"][0]]}, "derive the same column"),
        (lambda tree: tree | {"finetune": {"task_weights": {"churn": 1.0}}}, "churn"),
        (lambda tree: tree | {"store": {"generation": "two"}}, "pattern"),
        (
            lambda tree: _events(tree, columns={k: v for k, v in tree["events"]["columns"].items() if k != "price"}),
            "maps no price",
        ),
    ],
)
def test_a_contradiction_is_refused(tree, change, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(change(tree))


def test_a_naive_cutoff_needs_the_zone_of_the_events(tree):
    zoneless = _events(tree, timezone=None) | {"training": {"cutoffs": ["2017-01-01"]}}
    with pytest.raises(ConfigError, match="names no zone"):
        parse_config(zoneless)


def test_labels_end_with_the_longest_window(config):
    cutoff = config.time("2017-01-01")
    assert config.labels_end(cutoff) == config.time("2017-01-15")


def test_the_configuration_is_frozen(config):
    with pytest.raises(ValueError, match="frozen"):
        config.segments.count = 3
