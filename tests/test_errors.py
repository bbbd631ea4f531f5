import inspect

import pytest

from segmenter_plugin import errors
from segmenter_plugin.errors import ConfigError, GateError, SegmenterError, TrainingError, UserError

ALL = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SegmenterError)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_drawn_in_the_tree_and_has_a_docstring(error):
    assert error.__name__ in errors.__doc__
    assert error.__doc__


def test_a_message_ends_with_its_hint():
    assert str(ConfigError("x = 3 is too much.", hint="give 2.")) == "x = 3 is too much.\nHint: give 2."
    assert str(ConfigError("x = 3 is too much.")) == "x = 3 is too much."


def test_exit_codes_tell_mistakes_from_failures_and_gates():
    assert {error.exit_code for error in ALL if issubclass(error, UserError)} == {2}
    assert TrainingError.exit_code == 1
    assert GateError.exit_code == 3
