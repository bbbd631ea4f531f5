"""`segmenter build` as a Spark job.

    zip -qr segmenter_plugin.zip segmenter_plugin
    spark-submit --py-files segmenter_plugin.zip spark_jobs/build.py --config segmenter.toml --cutoff 2024-12-01

The cluster's Python needs numpy, pyarrow, pydantic, click and rich; neither torch nor feast.
"""

import sys

from segmenter_plugin.cli import main

main(["build", *sys.argv[1:]])
