"""Commands as they go down to a lock: what a profile rendered, framed for this very lock."""

from jt709c_gateway.commands.profiles import BinaryMessage, GroupedSentence, PnnSentence, Rendered
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.decoder import JT701

_ID_DIGITS = 12
#: A master knows its own id by all of its digits (PROTOCOL.md §2.2).
_MASTER_DIGITS = 10


def frame(rendered: Rendered, session: Session, number: int) -> tuple[bytes, int | None]:
    """The bytes to write and the serial they carry, None where the form has none.

    `number` counts the commands to this lock; two in a row must differ on the wire (PROTOCOL.md §2.1).
    """
    if isinstance(rendered, GroupedSentence):
        serial = number % 1000
        device = session.device.zfill(_MASTER_DIGITS if session.speaks(None) == JT701 else 0)
        version = session.sentence_version
        parameters = (rendered.group, str(rendered.number), *rendered.parameters)
        if version not in sentences.OWN_VERSIONS:
            version = sentences.USUAL_VERSION
        return sentences.grouped(device, serial, *parameters, version=version), serial
    if isinstance(rendered, BinaryMessage):
        serial = number & 0xFFFF
        wire = session.identity_wire or bytes.fromhex(session.device.zfill(_ID_DIGITS))
        return jt808.encode(rendered.message_id, wire, serial, rendered.body), serial
    if isinstance(rendered, PnnSentence):
        texts = (*rendered.before, rendered.text)
        return "".join(f"({text})" for text in texts).encode("ascii"), None
    return rendered.data, None
