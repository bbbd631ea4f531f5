import gzip

from segmenter_plugin.data import csv_quotes
from segmenter_plugin.data.csv_quotes import odd_quotes


def test_the_first_line_that_does_not_pair_up(tmp_path, monkeypatch):
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    good.write_text('u,i\n"1 ""x""",2\n,\n', encoding="utf-8")
    bad.write_bytes(gzip.compress(b'u,i\n"1",2\n"3,4\n5",6\n'))
    assert odd_quotes([good, bad]) == f"line 3 of {str(bad)!r} has an odd number of quotes."
    assert odd_quotes([good]) is None
    assert odd_quotes([]) is None
    monkeypatch.setattr(csv_quotes, "_MOST_BYTES", 10)
    assert odd_quotes([good, bad]) is None
