"""Joint rotations as exponential maps: their interpolation, and the Euler angles that errors are stated in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]


def euler_angles(maps: Array) -> Array:
    """Return the Euler angles of exponential maps, both [..., 3] in radians.

    R = Rx(a) Ry(b) Rz(c), b in [−π/2, π/2], a and c in (−π, π]. The S-RNN code and those after it name the same angles
    with the opposite sign, which no difference of two sees.
    """
    flat = Rotation.from_rotvec(maps.reshape(-1, 3))
    # At b = ±π/2 only a ± c is determined: scipy warns and sets c to 0, as the published code does for b = −π/2.
    angles: Array = flat.as_euler("XYZ", suppress_warnings=True).reshape(maps.shape)
    return angles


def resample_rotations(maps: Array, positions: Array) -> Array:
    """Interpolate rotations [frame, joint, 3] at fractional frames [new], along the shortest arc (slerp).

    A rotation has several exponential maps (r and r − 2π r/|r| are the same rotation), so that interpolating their
    numbers would pass through rotations that never occurred. The result is continuous, see :func:`continuous`.
    """
    frames = np.arange(len(maps))
    joints = [Slerp(frames, Rotation.from_rotvec(joint))(positions).as_rotvec() for joint in maps.swapaxes(0, 1)]
    return continuous(np.stack(joints, axis=1))


def continuous(maps: Array) -> Array:
    """Return the same rotations [frame, joint, 3], each as the exponential map that is nearest to the frame before."""
    result = maps.copy()
    for frame in range(1, len(maps)):
        norm = np.linalg.norm(maps[frame], axis=-1, keepdims=True)
        turn = 2 * np.pi / np.where(norm > 0, norm, 1)
        # The map itself, the same rotation the other way round, and one full turn more.
        candidates = np.stack([maps[frame] * (1 + turns * turn) for turns in (0, -1, 1)])
        distance = np.linalg.norm(candidates - result[frame - 1], axis=-1)
        # A rotation of almost zero has no axis to add a turn about.
        distance[1:, norm[:, 0] < 1e-6] = np.inf
        result[frame] = np.take_along_axis(candidates, distance.argmin(0)[None, :, None], axis=0)[0]
    return result
