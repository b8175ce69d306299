import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.adjacency import Adjacency, checked_adjacency


def test_symmetrise_by_maximum_or_mean_and_clear_the_diagonal():
    directed = Adjacency.from_matrix([[1.0, 0.25], [0.75, 1.0]])
    assert directed.symmetrised().dense().tolist() == [[0, 0.75], [0.75, 0]]
    assert directed.symmetrised("mean").dense().tolist() == [[0, 0.5], [0.5, 0]]
    with pytest.raises(ConfigError, match="symmetrise 'min'"):
        directed.symmetrised("min")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1, 2], [1, 0, 2]], r"shape \[2, 3\]"),
        ([], r"shape \[0\]"),
        ([[0, 1], [-1, 0]], r"adjacency\[1, 0\] is -1"),
        ([[0, np.nan], [1, 0]], r"adjacency\[0, 1\] is nan"),
        ([[0, np.inf], [1, 0]], r"adjacency\[0, 1\] is inf"),
    ],
)
def test_bad_adjacency_is_refused_by_its_cell(matrix, message):
    with pytest.raises(DataError, match=message):
        checked_adjacency(matrix)


def test_input_matrix_is_left_as_it_was():
    matrix = np.eye(2)
    checked_adjacency(matrix)
    assert matrix.tolist() == [[1, 0], [0, 1]]
