"""``stunet build``: a bundle's graphs compiled to TensorRT engines, on the device or ahead of time."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_trust, open_bundle

HELP = "Compile a bundle's graphs to TensorRT engines in its folder engines/; needs numpy and TensorRT, no torch."
EXAMPLE = "example: stunet build model.bundle --flavor rtx --compute-capability 8.6 8.9 12.0"
#: Names on the command line, each with those of the flavours it stands for.
FLAVORS = {"auto": ("tensorrt", "tensorrt-rtx"), "tensorrt": ("tensorrt",), "rtx": ("tensorrt-rtx",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="bundle/", help="folder that stunet-export wrote")
    parser.add_argument(
        "--flavor",
        choices=FLAVORS,
        default="auto",
        help="tensorrt builds on the GPU it will run on; rtx ahead of time, without a GPU too; "
        "auto (default) takes the first that is installed",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P[,P]",
        help="fp32 (default), tf32, fp16, bf16 or int8, as they were exported; several with commas",
    )
    parser.add_argument(
        "--compute-capability",
        nargs="+",
        default=(),
        metavar="C",
        help="GPUs to build for, such as 8.6 8.9 12.0 (default: the one that is here; rtx without a GPU: those three)",
    )
    parser.add_argument(
        "--batch",
        nargs=3,
        type=int,
        metavar=("MIN", "OPT", "MAX"),
        help="smallest, tuned and largest number of rows (default: 1 1 64, or more for a longer window)",
    )
    parser.add_argument(
        "--level", type=int, metavar="N", help="the builder's optimisation level, 0 to 5 (default: its own)"
    )
    parser.add_argument(
        "--version-compatible",
        action="store_true",
        help="for tensorrt_lean of this release and later ones; full builder only",
    )
    parser.add_argument("--rebuild", action="store_true", help="build even if a matching engine is there")
    add_trust(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Build, or find, one engine per precision and name them."""
    from export.engine import build_engine, engine_summary
    from runtime.backends.gpu.driver import find_device
    from runtime.backends.gpu.flavor import find_flavor
    from stunet_deploy.signature import signatures_of, unsigned_engines

    bundle = open_bundle(arguments.bundle, arguments.trust)
    signatures = signatures_of(bundle.path)
    precisions = list(dict.fromkeys(word.strip() for word in arguments.precision.split(",")))
    for precision in precisions:
        bundle.graph(precision)  # all of them are known before the first minute is spent
    flavor = find_flavor(*FLAVORS[arguments.flavor])
    engines, lines = [], []
    for precision in precisions:
        console.say(f"building {precision} with {flavor.name} {flavor.version}")
        watch = _Watch(console)
        try:
            built = build_engine(
                bundle,
                flavor,
                precision,
                compute_capabilities=arguments.compute_capability,
                batch=None if arguments.batch is None else tuple(arguments.batch),
                level=arguments.level,
                version_compatible=arguments.version_compatible,
                rebuild=arguments.rebuild,
                progress=watch.show,
            )
        finally:
            watch.clear()
        summary = engine_summary(built)
        made = "was there already" if built.reused else f"built in {summary['seconds']:.1f} s"
        engines.append(summary)
        lines.append(f"{built.stored.path}: {summary['bytes'] / 1e6:.1f} MB, {made}")
    console.answer({"bundle_id": bundle.manifest.bundle_id, "engines": engines}, "\n".join(lines))
    if signatures:
        for engine in unsigned_engines(bundle.path, signatures):
            console.say(
                f"note: no signature of the bundle names {engine} as it is: where a key is trusted it is refused until "
                f"the bundle is signed again: stunet sign {arguments.bundle} --key FILE"
            )
    if find_device() is None:  # built ahead of time, for another machine
        console.next(f"copy {arguments.bundle} to a machine with such a GPU")
    else:
        console.next(f"stunet verify {arguments.bundle} --backend {flavor.name} --precision {precisions[0]}")
    return 0


class _Watch:
    """Shows what the builder does: on a terminal as one line that changes, elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.interval_s = 0.1 if console.interactive else 10.0
        self.shown_at = time.monotonic() - (self.interval_s if console.interactive else 0)

    def show(self, phase: str, share: float) -> None:
        """Show a phase unless something was shown a moment ago."""
        now = time.monotonic()
        if now - self.shown_at < self.interval_s:
            return
        self.shown_at = now
        if self.console.interactive:
            print(f"\r\033[K{phase} {share:.0%}", end="", file=self.console.err, flush=True)
        else:
            self.console.say(f"{phase} {share:.0%}")

    def clear(self) -> None:
        """Remove the line that changes."""
        if self.console.interactive:
            print("\r\033[K", end="", file=self.console.err, flush=True)
