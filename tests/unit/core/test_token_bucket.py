"""Rate limits, and how they are shared."""

from ropeway.core.token_bucket import MAX_SHARES, SharedBudget, TokenBucket


def test_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(10.0, 5, 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(0.1) for _ in range(2)] == [True, False]


def test_no_one_takes_the_share_of_another():
    budget = SharedBudget(100.0, 100, share_rate=10.0, share_burst=20, now=0.0)
    assert sum(budget.take("greedy", 0.0) for _ in range(1000)) == 20
    assert sum(budget.take("modest", 0.0) for _ in range(20)) == 20
    assert sum(budget.take("greedy", 1.0) for _ in range(1000)) == 10


def test_all_together_get_no_more_than_the_whole():
    budget = SharedBudget(100.0, 50, share_rate=10.0, share_burst=20, now=0.0)
    assert sum(budget.take(who, 0.0) for who in range(100) for _ in range(20)) == 50


def test_shares_of_very_many_are_bounded_and_the_one_unused_for_longest_goes():
    budget = SharedBudget(1e6, 1e6, share_rate=1.0, share_burst=1, now=0.0)
    assert budget.take("first", 0.0)
    for who in range(MAX_SHARES - 1):
        assert budget.take(who, 0.0)
        assert not budget.take("first", 0.0), "it is remembered while it is used"
    for who in range(10 * MAX_SHARES):
        budget.take(("more", who), 0.0)
    assert budget.take("first", 0.0)
    assert len(budget) == MAX_SHARES
