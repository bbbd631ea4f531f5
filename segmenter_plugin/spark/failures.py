"""What Spark means by an error, out of all that it says."""

from __future__ import annotations

import re

#: Spark's own messages begin with the name of their class of errors.
_SPARK_ERROR = re.compile(r"\[[A-Z][A-Z0-9_.]+\] ")
#: Some of its exceptions come as the JVM's, behind a line of py4j that only says which call it was.
_CALL = "An error occurred while calling"


def cause_of(error: Exception) -> str:
    """The line that says what is wrong."""
    told = (line.removeprefix(": ") for line in str(error).splitlines() if not line.startswith(_CALL))
    lines = list(told) or [type(error).__name__]
    return next((line[found.start() :] for line in lines if (found := _SPARK_ERROR.search(line))), lines[0])
