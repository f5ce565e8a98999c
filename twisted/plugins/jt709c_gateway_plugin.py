"""Makes ``twistd jt709c-gateway`` known to Twisted."""

from twisted.application.service import ServiceMaker

jt709c_gateway = ServiceMaker(
    "jt709c-gateway",
    "jt709c_gateway.service",
    "Gateway between Jointech JT709C smart locks and Redis.",
    "jt709c-gateway",
)
