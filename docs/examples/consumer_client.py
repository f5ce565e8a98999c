"""Follow the events of all locks and miss none, with the client: python consumer_client.py"""

import os

from jt709c_gateway.client import Client, Gap


def tell(gap: Gap) -> None:
    """Yours. The stream was trimmed while we were away: read the last known states anew."""
    print(f"away for too long: {gap.count} events were cut off (--events-max)", flush=True)


with Client(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379")) as client:
    for event in client.events.consume(group="logbook", consumer="logbook-1", on_gap=tell):
        # Yours. Each event comes here at least once; after a crash perhaps again, with the same id.
        print(event.id, event.kind, event.device, flush=True)
