"""The last day of a recording, interval by interval, as a controller sees it: 02_stream.py BUNDLE RECORDING."""

import sys

from runtime.stream import Stream
from stunet_deploy.series.series import read_series

stream = Stream.open(sys.argv[1])
series = read_series(sys.argv[2])

for readings, observed, time in list(zip(series.values, series.observed, series.timestamps, strict=True))[-288:]:
    forecast = stream.push(readings, int(time), observed)
    now, soon = readings[0, 0] if observed[0, 0] else float("nan"), forecast.values[5, 0, 0]
    print(f"{forecast.issued_at:%H:%M}  now {now:6.1f}  in half an hour {soon:6.1f}  {' '.join(forecast.reasons)}")

stream.close()
