"""Tables on disk, vocabularies and batches: numpy and pyarrow only."""
