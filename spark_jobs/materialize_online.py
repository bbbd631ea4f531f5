"""`segmenter materialize-online` as a Spark job.

    zip -qr segmenter_plugin.zip segmenter_plugin
    spark-submit --py-files segmenter_plugin.zip spark_jobs/materialize_online.py --cutoff 2024-12-01

The Python of driver and executors needs segmenter-plugin's extras [store] and [redis]; no torch. Only the driver reads
the Feast repository and its registry. As each task holds one connection, the number of connections at a time is that of
the cluster's cores: bound it with --conf spark.cores.max, or spark.executor.instances times spark.executor.cores.
"""

import sys

from segmenter_plugin.cli import main

main(["materialize-online", *sys.argv[1:]])
