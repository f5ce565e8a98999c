"""The summary of a frame."""

from typing import Final

from attrs import define

from jt709c_gateway.dissector.fields import Direction

UP: Final = "up"
DOWN: Final = "down"


@define
class Heading:
    """Dialect, title, direction and sender or receiver of a frame, as `Explanation` has them."""

    dialect: str | None
    title: str
    direction: Direction | None = None
    device: str | None = None
    imei: str | None = None
