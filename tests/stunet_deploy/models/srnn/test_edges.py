"""Sums over the edges of a node: how their tables are laid out."""

from __future__ import annotations

from stunet_deploy.models.srnn.edges import PADDING, groups_by_length


def test_rows_are_grouped_only_where_padding_costs_more_than_the_edges() -> None:
    assert [rows.tolist() for rows in groups_by_length([1, 4, 2])] == [[0, 1, 2]]
    lengths = [1, 100, 3, 1, 17, 4, 1, 2, 5, 1]
    groups = groups_by_length(lengths)
    assert [rows.tolist() for rows in groups] == [[0, 3, 6, 9], [2, 5, 7], [8], [4], [1]]
    for rows in groups:
        counts = [lengths[row] for row in rows]
        assert max(counts) * len(counts) <= PADDING * sum(counts)
