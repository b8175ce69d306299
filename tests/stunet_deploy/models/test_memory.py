"""The memory of a week: against a diary kept by the calendar, step by step and as a sequence, and at any time given."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from stunet_deploy.models.memory import WEEK, WeekMemory
from stunet_deploy.series.wall_clock import WEEK_S

INTERVALS_S = (300, 1800, 3600, 4 * 3600, 86_400)


def readings(interval_s: int, rows: int, targets: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Departures [2, time, 3, target] of two streams, the second of which crosses the end of the week."""
    generator = torch.Generator().manual_seed(7)
    begin = torch.tensor([[2 * interval_s], [WEEK_S - 7 * interval_s]])
    seconds = (begin + interval_s * torch.arange(rows)) % WEEK_S
    return torch.randn(2, rows, 3, targets, generator=generator), seconds[..., None].float()


def nothing(memory: WeekMemory, batch: int, nodes: int) -> dict[str, torch.Tensor]:
    return {state.name: torch.zeros(state.with_batch(batch)) for state in memory.states(nodes)}


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_what_is_looked_up_is_in_a_diary_of_the_week(interval_s: int) -> None:
    memory = WeekMemory(float(interval_s), horizon=3, targets=2)
    departed, seconds = readings(interval_s, rows=min(2 * WEEK_S // interval_s, 700))

    found, _ = memory.sequence(departed, seconds, nothing(memory, 2, 3))

    slot_s, step_s = (1200, 600) if interval_s == 300 else (interval_s, interval_s)
    for stream in range(2):
        diary: dict[int, list[torch.Tensor]] = defaultdict(list)  # by slot, its latest occurrence
        for row, second in enumerate(seconds[stream, :, 0].long().tolist()):
            around = [second + step_s * step for step in range(3 if interval_s == 300 else 5)]
            slots = [(time - back) % WEEK_S // slot_s for back in (86_400, 0) for time in around]
            expected = [sum(diary[slot]) / len(diary[slot]) if diary[slot] else torch.zeros(3, 2) for slot in slots]
            assert found.known[stream, row].tolist() == [float(bool(diary[slot])) for slot in slots]
            looked = found.departures[stream, row]
            torch.testing.assert_close(looked, torch.stack(expected, dim=-1), rtol=0, atol=1e-5)
            channels = torch.cat(
                [looked.flatten(-2), found.known[stream, row].view(2, -1).mean(1).expand(3, 2)], dim=-1
            )
            torch.testing.assert_close(found.channels()[stream, row], channels)
            place = second % slot_s // interval_s
            if place == 0 or row == 0:  # what came before the stream was as usual
                diary[second // slot_s] = [torch.zeros(3, 2)] * place
            diary[second // slot_s].append(departed[stream, row])


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_a_sequence_is_its_steps(interval_s: int) -> None:
    memory = WeekMemory(float(interval_s), horizon=4, targets=1)
    departed, seconds = readings(interval_s, rows=30, targets=1)
    state = {name: torch.rand_like(part) for name, part in nothing(memory, 2, 3).items()}

    found, final = memory.sequence(departed, seconds, state, torch.arange(2, 30, 5))

    stepped = []
    for row in range(30):
        looked, state = memory.step(departed[:, row], seconds[:, row], state)
        stepped.append(looked)
    for part, of_step in zip(found, zip(*stepped[2::5], strict=True), strict=True):
        assert part.equal(torch.stack(of_step, dim=1))
    assert final.keys() == state.keys()
    assert all(final[name].equal(state[name]) for name in state)


@pytest.mark.parametrize("seconds", [3.4e38, -3.4e38, -1.0, 604_800.0, 1e-45, float("nan"), float("inf")])
@pytest.mark.parametrize("interval_s", [300, 86_400])
def test_any_time_stays_within_the_memory(interval_s: int, seconds: float) -> None:
    memory = WeekMemory(float(interval_s), horizon=12, targets=1)

    looked, written = memory.step(torch.ones(1, 2, 1), torch.tensor([[seconds]]), nothing(memory, 1, 2))

    assert bool(looked.channels().isfinite().all())
    assert bool(written[WEEK].isfinite().all())
