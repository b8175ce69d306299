"""The Laplacian of a sensor graph, its largest eigenvalue, and the Chebyshev polynomials of the scaled Laplacian."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.adjacency import Adjacency

LARGEST_DENSE_SPECTRUM = 1000
"""Above this many nodes the largest eigenvalue comes from the sparse solver."""
SPECTRUM_TOLERANCE = 1e-6
"""Residual at which that solver stops; the eigenvalue is far more exact. Without it the solver does not end where
eigenvalues crowd below 2, as in a network of many dead ends."""


def laplacian(adjacency: Adjacency) -> scipy.sparse.csr_array:
    """Symmetric normalised Laplacian I - D^(-1/2) W D^(-1/2), [node, node].

    An isolated node has D^(-1/2) := 0, hence 1 on the diagonal; scipy's own Laplacian puts 0 there.

    Args:
        adjacency: a symmetric graph.
    """
    root_degree = np.sqrt(np.bincount(adjacency.target, adjacency.weight, minlength=len(adjacency)))
    # One product of roots, not two scalings, keeps the result symmetric to the last bit.
    normalised = adjacency.weight / (root_degree[adjacency.source] * root_degree[adjacency.target])
    every = np.arange(len(adjacency))
    rows, columns = np.concatenate([adjacency.source, every]), np.concatenate([adjacency.target, every])
    entries = np.concatenate([-normalised, np.ones(len(every))])
    return scipy.sparse.csr_array((entries, (rows, columns)), shape=(len(every), len(every)))


def largest_eigenvalue(laplacian: scipy.sparse.csr_array) -> float:
    """Largest eigenvalue of a symmetric matrix [node, node]; a sparse solver takes over for many nodes."""
    nodes = laplacian.shape[0]
    if nodes <= LARGEST_DENSE_SPECTRUM:
        dense = laplacian.toarray()
        try:
            return float(scipy.linalg.eigh(dense, eigvals_only=True, subset_by_index=(nodes - 1, nodes - 1))[0])
        except scipy.linalg.LinAlgError:  # LAPACK's bisection fails where nearly all eigenvalues are one
            return float(np.linalg.eigvalsh(dense)[-1])
    # The solver's own start vector is random. A constant one is an eigenvector of regular graphs.
    start = np.random.default_rng(0).random(nodes) - 0.5
    values = scipy.sparse.linalg.eigsh(
        laplacian, k=1, which="LA", v0=start, tol=SPECTRUM_TOLERANCE, return_eigenvectors=False
    )
    return float(values[0])


def scaled_laplacian(laplacian: scipy.sparse.csr_array, largest: float) -> scipy.sparse.csr_array:
    """Laplacian scaled to eigenvalues from -1 to 1, [node, node]: 2 L / largest - I."""
    return 2 * laplacian / largest - scipy.sparse.eye_array(laplacian.shape[0], format="csr")


def chebyshev_basis(adjacency: Adjacency, order: int) -> NDArray[np.float64]:
    """Chebyshev polynomials T1 ... T(order-1) of the Laplacian scaled to [-1, 1], [order - 1, node, node].

    T0, the identity, is left out: it need not be stored or multiplied.

    Args:
        adjacency: a symmetric graph.
        order: number K of polynomials, T0 included, at least 1.

    Raises:
        ConfigError: ``order`` is below 1.

    Source: Defferrard et al. (2016), Eq. (4) and the recurrence below it; ST-UNet, Eq. (2).
    """
    if order < 1:
        raise ConfigError(f"chebyshev_order {order}", "1 or more", "correct chebyshev_order in the config")
    identity = np.eye(len(adjacency))
    if order == 1:
        return np.zeros((0, *identity.shape))
    unscaled = laplacian(adjacency)
    # Sparse products add in one fixed order, whatever the number of BLAS threads.
    sparse = scaled_laplacian(unscaled, largest_eigenvalue(unscaled))
    polynomials = [identity, sparse.toarray()]
    while len(polynomials) < order:
        polynomials.append(2 * (sparse @ polynomials[-1]) - polynomials[-2])
    return np.stack(polynomials[1:])
