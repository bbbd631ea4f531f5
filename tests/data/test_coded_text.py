import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.data.coded_text import CodedText

VALUES = ["b", None, "a", "b", "ä", "😀", "\uffee", "", None]


@pytest.fixture(params=["text", "large text", "dictionaries", "a dictionary that repeats itself", "chunks"])
def column(request):
    text = pa.chunked_array([VALUES])
    made = {
        "text": lambda: text,
        "large text": lambda: text.cast(pa.large_string()),
        "dictionaries": lambda: pa.chunked_array(
            [pa.array(VALUES[:4]).dictionary_encode(), pa.array(VALUES[4:]).dictionary_encode()]
        ),
        "a dictionary that repeats itself": lambda: pa.chunked_array(
            [
                pa.DictionaryArray.from_arrays(
                    pa.array([4, 0, 2, 1, 3, 5, 6, 7, None], pa.int8()),
                    pa.array([None, "b", "a", "ä", "b", "😀", "\uffee", "", "unused"]),
                )
            ]
        ),
        "chunks": lambda: pa.chunked_array([VALUES[:2], [], VALUES[2:]]),
    }
    return made[request.param]()


def test_codes_stand_for_the_text(column):
    coded = CodedText.of(column)
    assert coded.text().to_pylist() == VALUES
    assert coded.text().type == pa.string()
    assert (coded.codes == 0).tolist() == [value is None for value in VALUES]
    assert coded.codes[0] == coded.codes[3] == coded.code("b")
    assert coded.code("absent") == -1
    assert coded.dictionary().to_pylist() == VALUES


def test_ranks_are_by_bytes_and_null_is_first(column):
    coded = CodedText.of(column)
    encoded = [b"" if value is None else b"1" + value.encode() for value in VALUES]
    assert np.unique(coded.ranks(), return_inverse=True)[1].tolist() == [
        sorted(set(encoded)).index(value) for value in encoded
    ]


def test_ranks_of_few_values_keep_their_order():
    coded = CodedText.of(pa.chunked_array([[f"{number:03}" for number in range(300)][::-1]]))
    ranks = coded.take(np.array([7, 250, 7, 299])).ranks()
    assert ranks[0] == ranks[2] > ranks[1] > ranks[3]


def test_nothing_at_all():
    for empty in (pa.chunked_array([], pa.string()), pa.chunked_array([[None, None]], pa.string())):
        coded = CodedText.of(empty)
        assert coded.text().to_pylist() == empty.to_pylist()
        assert coded.ranks().tolist() == [0] * len(empty)
