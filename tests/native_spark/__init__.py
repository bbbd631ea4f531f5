"""The tables of a build in Spark SQL: an independent implementation, that ours must equal to the bit."""
