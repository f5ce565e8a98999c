"""The names of the dialects, as in events, profiles and options (docs/dialects.rst)."""

from typing import Final

#: `7E` frames of a JT709 lock.
JT709: Final = "jt709"
#: `7E` frames with 0x5501.
JT705: Final = "jt705"
#: `$` frames and `Pnn` sentences of a master.
JT701: Final = "jt701"
#: Sentences of the grouped form, which is common to jt709 and jt705: the bytes don't tell which.
SENTENCE: Final = "sentence"

#: The dialects that have profiles; a device of another one has no commands.
DIALECTS: Final = (JT709, JT705, JT701)
