"""The public names, and what importing the package costs."""

import subprocess
import sys

import segmenter_plugin

HEAVY = ("torch", "pyspark", "feast", "transformers", "pandas", "sklearn", "pydantic", "pyarrow")


def test_the_public_names_are_few_and_can_be_imported():
    assert len(segmenter_plugin.__all__) <= 20
    assert sorted(segmenter_plugin.__all__) == sorted(["__version__", *segmenter_plugin._EXPORTS])
    for name in segmenter_plugin.__all__:
        assert getattr(segmenter_plugin, name) is not None
    assert dir(segmenter_plugin) == segmenter_plugin.__all__


def _loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not _loaded_after("import segmenter_plugin") & set(HEAVY)


def test_the_command_line_loads_nothing_heavy_until_a_command_runs():
    assert not _loaded_after("import segmenter_plugin.cli") & {"torch", "pyspark", "feast", "pandas", "sklearn"}


def test_one_room_does_not_load_another():
    assert not _loaded_after("import segmenter_plugin.spark.clean") & {"torch", "feast"}
    assert not _loaded_after("import segmenter_plugin.model.encoder") & {"pyspark", "feast"}
    # Feast itself imports torch where it is installed.
    assert not _loaded_after("import segmenter_plugin.store.views") & {"pyspark", "transformers"}
    assert not _loaded_after("import segmenter_plugin.store.publish") & {"pyspark", "torch", "feast"}
