"""What ``twistd`` loads: `Options`, and `makeService`, which makes the daemon of them."""

from jt709c_gateway.commands.profiles import ProfileError, load_profiles
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.daemon import GatewayService
from jt709c_gateway.startup import StartError
from jt709c_gateway.util.clock import count_monotonic
from jt709c_gateway.util.signals import Signals
from jt709c_gateway.workers.supervisor import Supervisor

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> GatewayService | Supervisor:
    """The service that ``twistd jt709c-gateway`` runs; raises StartError for invalid settings."""
    from twisted.internet import reactor

    count_monotonic(reactor)
    settings = options.settings
    try:
        profiles = load_profiles(settings.profiles, allow_raw=settings.allow_raw)
    except ProfileError as error:
        raise StartError(error) from None
    kind = Supervisor if settings.workers > 1 else GatewayService
    service: Supervisor | GatewayService = kind(reactor, settings, profiles)
    Signals(reactor, service.reread).setServiceParent(service)  # type: ignore[no-untyped-call]
    return service
