"""Dense linear algebra that knows about rounding; nothing here knows about images or tasks.

eigen       eigendecompositions, largest eigenvalue first, and what counts as 0
leading     the leading eigenvectors alone
whitening   W with W G Wᵀ = I, found once and used often
products    symmetric matrix products
precision   the precision of products
rounding    what rounding does to a curve
"""
