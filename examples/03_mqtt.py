"""The detectors' side of 03_service.toml: sends three intervals and prints forecasts: 03_mqtt.py BUNDLE [PORT]."""

import json
import sys
import time
from queue import Queue

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from stunet_deploy.bundle import Bundle

manifest = Bundle.load(sys.argv[1]).manifest
forecasts: Queue[bytes] = Queue()

client = Client(CallbackAPIVersion.VERSION2)
client.on_message = lambda client, data, message: message.retain or forecasts.put(message.payload)
client.connect("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 1883)
client.subscribe("stunet/example/forecast", qos=1)
client.loop_start()

over = int(time.time() - manifest.phase_s) // manifest.interval_s * manifest.interval_s + manifest.phase_s
for ago in (3, 2, 1):
    values = {sensor: dict(zip(manifest.features, manifest.mean, strict=True)) for sensor in manifest.sensor_ids}
    interval = {"timestamp": over - ago * manifest.interval_s, "values": values}
    client.publish("detectors/interval", json.dumps(interval), qos=1)
    forecast = json.loads(forecasts.get(timeout=60))
    # The next interval at three sensors: a forecast holds every horizon at every sensor.
    three = {
        target: {forecast["sensors"][node]: round(steps[0][node], 1) for node in range(3)}
        for target, steps in forecast["values"].items()
    }
    print(forecast["issued_at"], three, *forecast["reasons"])

client.loop_stop()
