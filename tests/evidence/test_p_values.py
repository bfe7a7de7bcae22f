"""The p-value of a searched grid, where the numerical error differs with K."""

import numpy as np

from reconjax.evidence.p_values import search_p_values


def test_errors_may_differ_with_k():
    rng = np.random.default_rng(0)
    agreement, baseline = rng.normal(0.3, 1, (4, 3, 8)), rng.normal(0, 1, (3, 8))
    error = np.abs(rng.normal(0, 0.5, (4, 3)))
    found = search_p_values(agreement, baseline, error)
    for k in range(3):
        alone = search_p_values(agreement[:, k : k + 1], baseline[k : k + 1], error[:, k])
        np.testing.assert_array_equal(found[:, k : k + 1], alone)
    means = np.abs((agreement - baseline).mean(axis=-1))
    assert np.all(found[means <= error] == 1)
    assert 0 < np.sum(means <= error) < means.size
    np.testing.assert_array_equal(
        search_p_values(agreement, baseline, error[:, :1]),
        search_p_values(agreement, baseline, error[:, 0]),
    )
