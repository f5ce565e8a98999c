"""Frames rendered commands for the session they are sent over."""

from jt709c_gateway.commands.profiles import BinaryMessage, GroupedSentence, PnnSentence, Rendered
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.device_id import master_digits, terminal_id
from jt709c_gateway.protocol.dialects import JT701


def frame(rendered: Rendered, session: Session, number: int) -> tuple[bytes, int | None]:
    """The bytes to send, and their serial; None for a form without serial.

    `number` counts the commands to this device; two consecutive ones must differ on the wire
    (docs/protocol.rst).
    """
    if isinstance(rendered, GroupedSentence):
        serial = number % 1000
        device = master_digits(session.device) if session.dialect_or_guess(None) == JT701 else session.device
        version = session.sentence_version
        parameters = (rendered.group, str(rendered.number), *rendered.parameters)
        if version not in sentences.OWN_VERSIONS:
            version = sentences.USUAL_VERSION
        return sentences.grouped(device, serial, *parameters, version=version), serial
    if isinstance(rendered, BinaryMessage):
        serial = number & 0xFFFF
        wire = session.identity_wire or terminal_id(session.device)
        return jt808.encode(rendered.message_id, wire, serial, rendered.body), serial
    if isinstance(rendered, PnnSentence):
        texts = (*rendered.before, rendered.text)
        return "".join(f"({text})" for text in texts).encode("ascii"), None
    return rendered.data, None
