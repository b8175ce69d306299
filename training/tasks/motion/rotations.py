"""Joint rotations: exponential maps, their interpolation, and the Euler angles that errors are stated in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

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


def exponential_maps(angles: Array) -> Array:
    """Return the exponential maps of Euler angles, both [..., 3] in radians; their norm is at most π."""
    maps: Array = Rotation.from_euler("XYZ", angles.reshape(-1, 3)).as_rotvec().reshape(angles.shape)
    return maps


def angle_between(first: Array, second: Array) -> Array:
    """Return the angle [...] in radians of the rotation from one exponential map [..., 3] to another."""
    between = Rotation.from_rotvec(first.reshape(-1, 3)).inv() * Rotation.from_rotvec(second.reshape(-1, 3))
    angle: Array = between.magnitude().reshape(first.shape[:-1])
    return angle


def resample_rotations(maps: Array, positions: Array) -> Array:
    """Interpolate rotations [frame, joint, 3] at fractional frames [new], along the shortest arc (slerp).

    Numbers of one rotation may lie far apart (r and r − 2π r/|r| are the same): interpolating numbers would pass
    through rotations that never were. The result is continuous: of the two numbers of a rotation the one that is
    nearer to the frame before.
    """
    before = np.minimum(positions.astype(np.int64), len(maps) - 2)
    share = np.repeat(positions - before, maps.shape[1])[:, None]
    start = Rotation.from_rotvec(maps[before].reshape(-1, 3))
    arc = (start.inv() * Rotation.from_rotvec(maps[before + 1].reshape(-1, 3))).as_rotvec()
    new = (start * Rotation.from_rotvec(share * arc)).as_rotvec()
    return continuous(new.reshape(len(positions), *maps.shape[1:]))


def continuous(maps: Array) -> Array:
    """Return the same rotations [frame, joint, 3], each as the exponential map that is nearest to the frame before."""
    result = maps.copy()
    for frame in range(1, len(maps)):
        norm = np.linalg.norm(maps[frame], axis=-1, keepdims=True)
        turn = 2 * np.pi / np.where(norm > 0, norm, 1)
        # After the shortest map come the other way round, and one full turn further either way.
        candidates = np.stack([maps[frame] * (1 + turns * turn) for turns in (0, -1, 1)])
        distance = np.linalg.norm(candidates - result[frame - 1], axis=-1)
        # A rotation by almost nothing has no axis to add a turn about.
        distance[1:, norm[:, 0] < 1e-6] = np.inf
        result[frame] = np.take_along_axis(candidates, distance.argmin(0)[None, :, None], axis=0)[0]
    return result
