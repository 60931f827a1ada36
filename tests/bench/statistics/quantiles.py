"""Quantiles from printed tables, to check intervals by hand."""

# Of Student's t (Fisher and Yates), three decimals: t(4; 0.975) and t(9; 0.995).
T_4_975, T_9_995 = 2.776, 3.250
Z_975 = 1.959964  # of the normal distribution, six decimals
