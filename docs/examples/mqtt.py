"""Publish the events of all locks over MQTT: python mqtt.py HOST PORT   (pip install paho-mqtt)

The topic of an event is jt709c/DEVICE/KIND, its payload the event's JSON, with QoS 1. The last location
and the last lock event of each lock are retained. MQTT_USER and MQTT_PASSWORD may be in the environment,
and MQTT_CA, the file of an authority, for TLS.
"""

import os
import sys
import time

import msgspec
import paho.mqtt.client as mqtt

from jt709c_gateway.client import Client, Event

RETAINED = {"location", "lock"}
#: Seconds for the broker's acknowledgement.
PATIENCE = 30


def connect(host: str, port: int) -> mqtt.Client:
    """A client that connects, and connects again, in a thread of its own."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="jt709c-events", clean_session=False)
    if "MQTT_USER" in os.environ:
        client.username_pw_set(os.environ["MQTT_USER"], os.environ.get("MQTT_PASSWORD"))
    if "MQTT_CA" in os.environ:
        client.tls_set(os.environ["MQTT_CA"])
    client.reconnect_delay_set(1, 30)
    client.connect_async(host, port)
    client.loop_start()
    return client


def publish(broker: mqtt.Client, event: Event) -> None:
    """Publish an event and wait until the broker has it, however often it is away."""
    topic, retain = f"jt709c/{event.device}/{event.kind}", event.kind in RETAINED and not event.stored
    while True:
        while not broker.is_connected():
            time.sleep(0.2)
        sent = broker.publish(topic, msgspec.json.encode(event), qos=1, retain=retain)
        try:
            while not sent.is_published():
                sent.wait_for_publish(PATIENCE)
            return
        except (RuntimeError, ValueError):
            # The connection was lost just now. It may go out twice: at least once is what QoS 1 says, too.
            time.sleep(1)


broker = connect(sys.argv[1], int(sys.argv[2]))
with Client(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379")) as client:
    for event in client.events.consume(group="mqtt"):
        publish(broker, event)
        print(event.id, event.kind, event.device, flush=True)
