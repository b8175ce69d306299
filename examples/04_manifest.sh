#!/bin/sh
# What a bundle forecasts, and whether its files are whole, without Python: 04_manifest.sh BUNDLE
set -eu
cd "$1"

jq -r '"model      \(.model), identity \(.bundle_id[:12])
sensors    \(.sensor_ids | length), \(.sensor_ids[0]) ... \(.sensor_ids[-1])
reads      \(.features | join(", ")) every \(.interval_s) s, time zone \(.timezone)
forecasts  \(.targets | join(", ")), \(.horizon) intervals ahead
inputs     \([.contract.inputs[].name] | join(", "))"' manifest.json
jq -r '.files | to_entries[] | "\(.value)  \(.key)"' manifest.json | sha256sum --check
