"""Training in several processes: each takes a share of every batch, and all take the same steps."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes

from stunet_deploy.config import TrainingConfig
from stunet_deploy.errors import ConfigError, StunetError

T = TypeVar("T")

#: The others wait while the first validates, which may take long; a process that dies ends the wait at once.
_LONGEST_WAIT = timedelta(days=1)
#: Time to end by itself once another process has failed.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them; without a process group a training has one.

    Attributes:
        rank: number of this process; the first, 0, validates and writes.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def present(cls) -> Processes:
        """Return those of the process group that this process has joined."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that validates and writes."""
        return self.rank == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in one exchange."""
        if self.count == 1:
            return
        tensors = list(tensors)
        together = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(together)
        sums = together.split([tensor.numel() for tensor in tensors])
        for tensor, summed in zip(tensors, sums, strict=True):
            tensor.copy_(summed.view_as(tensor))

    def equalise(self, model: nn.Module) -> None:
        """Give all processes the first one's model: on another machine the last bit of a constant may differ."""
        if self.count > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                distributed.broadcast(tensor.detach(), 0)

    def of_first(self, compute: Callable[[], T]) -> T:
        """Return to all processes what ``compute`` returns in the first, where alone it is called."""
        if self.count == 1:
            return compute()
        shared = [compute() if self.first else None]
        distributed.broadcast_object_list(shared, 0)
        return cast(T, shared[0])


def check_shares(config: TrainingConfig, processes: int) -> None:
    """Check that a batch has a chunk for every process.

    Raises:
        ConfigError: it has fewer.
    """
    chunks = config.batch * config.accumulate
    if chunks < processes:
        raise ConfigError(
            f"{chunks} chunks an update for {processes} processes",
            "at least one chunk for each",
            "raise batch in the config file, or lower --processes",
        )


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun or :func:`launch` started, if they did; yield the torch device of this one.

    Args:
        device: of the training; ``cuda`` becomes a GPU for each process of a machine.
    """
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            yield device
            return
        _join(device)
    yield _own_device(device)
    # Not after an error: the others may be waiting, and the end of this process tells them.
    distributed.destroy_process_group()


def launch(count: int, device: str, function: Callable[..., None], *arguments: object) -> None:
    """Call a function in ``count`` new processes of this machine that form a group.

    Args:
        count: how many.
        device: a torch device; the processes exchange by NCCL on ``cuda``, otherwise by Gloo.
        function: of a module, called with the arguments; an exception of one ends all.
        arguments: can be pickled.

    Raises:
        StunetError: that of a process, or one was killed.
        ConfigError: fewer GPUs than processes.
    """
    if device == "cuda" and count > torch.cuda.device_count():
        raise ConfigError(
            f"{count} processes on {torch.cuda.device_count()} GPUs", "a GPU for each", "lower --processes"
        )
    with tempfile.TemporaryDirectory(prefix="stunet-") as name:
        folder = Path(name)
        threads = max(1, torch.get_num_threads() // count)
        started = start_processes(_process, (count, device, folder, threads, function, arguments), count, join=False)
        try:
            while not started.join(grace_period=_GRACE_S):
                pass
        except ProcessException as ended:
            for error in _errors(folder, count):
                raise error from None
            if not isinstance(ended, ProcessExitedException):
                raise
            how = ended.signal_name or f"exit code {ended.exit_code}"
            raise StunetError(
                f"process {ended.error_index + 1} of {count} ended early ({how})",
                f"{count} processes that run to the end",
                "look whether the memory was used up; the same command with --resume continues",
            ) from ended
        finally:
            for process in started.processes:
                process.join(_GRACE_S)
                process.kill()


def _process(
    rank: int,
    count: int,
    device: str,
    folder: Path,
    threads: int,
    function: Callable[..., None],
    arguments: Sequence[object],
) -> None:
    """Join the others and call the function; leave a user's error in the folder, where the parent finds it."""
    torch.set_num_threads(threads)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    try:
        _join(device, f"file://{folder}/meeting")
        function(*arguments)
    except StunetError as error:
        _error_file(folder, rank).write_bytes(pickle.dumps((type(error), error.came, error.expected, error.action)))
        raise SystemExit(error.exit_code) from error


def _join(device: str, place: str | None = None) -> None:
    """Form the process group; without a place the environment that torchrun sets says where."""
    if _on_gpu(device):
        torch.cuda.set_device(_own_device(device))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if _on_gpu(device) else "gloo",
        init_method=place,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=_LONGEST_WAIT,
    )


def _own_device(device: str) -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device


def _on_gpu(device: str) -> bool:
    return device.startswith("cuda")


def _error_file(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.error"


def _errors(folder: Path, count: int) -> Iterator[StunetError]:
    """Yield what the processes raised that a user can act on."""
    for rank in range(count):
        file = _error_file(folder, rank)
        if file.is_file():
            kind, *clauses = pickle.loads(file.read_bytes())
            yield kind(*clauses)
