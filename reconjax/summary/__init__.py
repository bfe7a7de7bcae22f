"""What is known of a data set without the data.

moments       the moments and their union
streaming     moments of data that come in batches
exact_sums    sums over 8-bit images without rounding
folds         moments of parts of the data
sample_gram   the (N, N) side of wide data
hosts         one data set that several hosts share
"""
