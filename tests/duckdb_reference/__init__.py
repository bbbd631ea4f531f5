"""The tables of a build in plain DuckDB SQL: written from what each column means, sharing no code with the kernel.

`typed.sql` types and judges the owner's rows, `stored.sql` leaves the different ones and caps bots, `settled.sql`
leaves each event once, `behaviour.sql` (with `key.sql`, `trends.sql`) and `labels.sql` make the rows of one cutoff.
`render` fills in the columns that the configuration names.
"""
