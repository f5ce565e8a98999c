"""Dissects frames for people: every byte with its field, its value and its meaning.

Bytes in, a tree of fields out; nothing here knows network, clock or terminal. Meanings come from the
decoders, so they are what the gateway publishes.
"""

from jt709c_gateway.dissector.dissector import Explainer, explain, explain_all
from jt709c_gateway.dissector.fields import Bits, Explanation, Field, leaves, problems, walk

__all__ = [
    "Bits",
    "Explainer",
    "Explanation",
    "Field",
    "explain",
    "explain_all",
    "leaves",
    "problems",
    "walk",
]
