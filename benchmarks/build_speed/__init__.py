"""The contestants of spark_build.py: what turns the same raw files into the same behaviour and labels."""
