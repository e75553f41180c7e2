"""What the store knows: chains, trees, sums, comparisons; and their words and figures."""
