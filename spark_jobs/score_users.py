"""`segmenter score` as a Spark job: a task for each file of behaviour, the model read once a Python worker.

    zip -qr segmenter_plugin.zip segmenter_plugin
    spark-submit --py-files segmenter_plugin.zip spark_jobs/score_users.py --cutoff 2024-12-01

The Python of driver and executors needs segmenter-plugin's extra [model], and each machine reaches [store] root. See
docs/spark.md.
"""

import sys

import click

from segmenter_plugin.cli import main, segmenter
from segmenter_plugin.commands.options import configured, cutoff_option, load, times
from segmenter_plugin.console import show
from segmenter_plugin.spark.session import open_session
from segmenter_plugin.stages.rescore import Since
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.score_files import score_on_spark


@segmenter.command("score-users")
@configured
@cutoff_option(multiple=True)
@click.option("--changed-since", metavar="TIME", help="As of `segmenter score`.")
@click.option("--max-age-days", default=28, show_default=True, type=click.IntRange(1), help="As of `segmenter score`.")
def score_users(config_path, overrides, cutoffs, changed_since, max_age_days):
    """Embed and score every user as of the cutoff, on Spark's executors."""
    config = load(config_path, overrides)
    since = None if changed_since is None else Since(config.time(changed_since), max_age_days)
    spark = open_session("segmenter score")
    show(score(config, times(config, cutoffs), since=since, score_files=score_on_spark(spark)))


main(["score-users", *sys.argv[1:]])
