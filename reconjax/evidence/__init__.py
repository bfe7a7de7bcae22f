"""How sure a curve is.

bootstrap    standard errors from balanced half-samples
p_values     of the best of a searched grid
comparison   families of noise, each at its best strength, chosen and judged on different data
"""
