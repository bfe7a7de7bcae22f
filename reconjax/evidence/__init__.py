"""How sure a curve is.

bootstrap    standard errors from balanced half-samples
p_values     of the best of a searched grid
comparison   families of noise, solved on one split and evaluated on the other
places       their ranking, each at its best strength
"""
