"""MQTT 5: a connection to the broker for each stream, with its source and its sinks."""
