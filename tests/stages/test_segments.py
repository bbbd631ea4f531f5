"""The segments of a cutoff as a table and a plot."""

import json
from pathlib import Path

import pytest
import scored_world as world
from click.testing import CliRunner

from segmenter_plugin.cli import segmenter
from segmenter_plugin.errors import MissingStageError
from segmenter_plugin.stages.segment import segment
from segmenter_plugin.stages.segments import segments


@pytest.fixture
def segmented(tmp_path):
    config = world.world_config(tmp_path, segments={"tiers": 2, "count": 2, "seed": 5})
    world.build_world(config, users=300)
    segment(config, [world.LATER])
    return config


def test_a_table_and_a_plot(segmented):
    result = segments(segmented)
    (rows,) = result["tables"].values()
    assert [row["id"] for row in rows] == [0, 1, 2, 3]
    assert sum(row["users"] for row in rows) == result["users"] == 300
    for row in rows:
        assert row["born"] == "2017-10-01"
        assert row["retrains kept"] == 0
        assert row["name"]
        assert row["profile"]
        assert 0 <= row["stability"] <= 1
        assert "mean spend_14d_expected" in row
    assert result["changes"][0]["births"] == [0, 1, 2, 3]
    picture = Path(result["plot"])
    drawn = picture.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert picture.parent.name == "reports"
    segments(segmented, world.LATER)
    assert picture.read_bytes() == drawn
    assert [path.name for path in picture.parent.iterdir()] == [picture.name]
    json.dumps(result, allow_nan=False)


def test_what_is_not_there_is_told(segmented, tmp_path):
    with pytest.raises(MissingStageError, match="has not been built"):
        segments(segmented, world.LATER.replace(year=2016))
    with pytest.raises(MissingStageError, match="no cutoff"):
        segments(world.world_config(tmp_path / "empty"))


def test_the_command_is_there():
    shown = CliRunner().invoke(segmenter, ["segments", "--help"])
    assert shown.exit_code == 0
    assert "segments-<cutoff>.png" in shown.output
