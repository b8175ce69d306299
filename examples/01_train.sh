#!/bin/sh
# From the recording in the package to a verified bundle, model.bundle/. Options are those of `stunet train`.
set -eu

data=stunet_deploy/data/freeway.npz

stunet train --data "$data" --out model.pt --max-minutes 3 "$@"
stunet evaluate model.pt --data "$data"
stunet-export model.pt
stunet verify model.bundle
