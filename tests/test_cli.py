"""The command line as a person meets it: exit codes, messages, the JSON line."""

import json

import click
import pytest

from segmenter_plugin.cli import main, segmenter
from segmenter_plugin.console import show

COMMANDS = [
    "demo", "init", "build", "pretrain", "finetune", "evaluate", "score", "segment", "segments", "publish", "gate",
    "materialize", "materialize-online",
    "train", "run", "backfill", "lookup", "migrate-online", "export", "tables", "audit", "simulate",
]  # fmt: skip


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


def test_every_command_is_there_and_explains_itself():
    assert set(segmenter.commands) == set(COMMANDS)
    for command in segmenter.commands.values():
        assert command.help or command.short_help
        context = click.Context(command)
        assert all(getattr(option, "help", True) for option in command.get_params(context) if option.name != "user_ids")


def test_a_mistake_exits_2_with_a_hint_and_a_json_line(capsys, tmp_path):
    code, out, err = _run(capsys, "build", "--config", str(tmp_path / "absent.toml"), "--cutoff", "2017-01-01")
    assert code == 2
    assert "no configuration file" in err
    assert "Hint: `segmenter init" in err
    assert json.loads(out.splitlines()[-1])["error"] == "ConfigError"


def test_a_time_is_always_given(capsys):
    for command in ("build", "score", "segment", "publish", "gate", "materialize", "run", "evaluate"):
        code, out, err = _run(capsys, command)
        assert code == 2
        assert "--cutoff" in err
        assert json.loads(out.splitlines()[-1])["error"] == "MissingParameter"


def test_a_malformed_cutoff_is_refused_before_anything_starts(capsys, tmp_path):
    (tmp_path / "segmenter.toml").write_text(
        '[events]\npath = "x"\n[events.columns]\nuser_id="u"\nitem_id="i"\nevent_type="t"\nevent_timestamp="at"\n'
    )
    config = str(tmp_path / "segmenter.toml")
    code, _, err = _run(capsys, "build", "--config", config, "--cutoff", "christmas")
    assert code == 2
    assert "'christmas' is not a time" in err
    code, _, err = _run(capsys, "build", "--config", config, "--cutoff", "2017-01-01")
    assert code == 2
    assert "names no zone" in err


def test_a_missing_package_names_its_extra(capsys, monkeypatch):
    def absent(*_arguments, **_options):
        raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark.sql")

    monkeypatch.setattr("segmenter_plugin.cli.segmenter", absent)
    code, _, err = _run(capsys)
    assert code == 2
    assert 'pip install "segmenter-plugin[spark]"' in err


def test_a_result_is_drawn_and_ends_in_one_json_line(capsys):
    result = {"rows": 2, "tables": {"Users": [{"user": "a", "spend": 1234.5}, {"user": "b", "spend": None, "late": 1}]}}
    show(result)
    out = capsys.readouterr().out
    assert "Users" in out
    assert "late" in out
    assert "1,234" in out or "1,235" in out
    assert json.loads(out.splitlines()[-1]) == result
