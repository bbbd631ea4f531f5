"""The tables of a build in plain DuckDB SQL: written from what each column means, sharing no code with the kernel.

`typed.sql` types and judges the owner's rows, `settled.sql` leaves each event once, `behaviour.sql` and `labels.sql`
make the rows of one cutoff. `render` fills in the columns that the configuration names.
"""
